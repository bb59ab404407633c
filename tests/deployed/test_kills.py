"""kill -9 of the Lambda's process at each step of ``add``: never a second purchase, and nothing forgotten."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.aws.table import Write
from chalicelib.jobs import sync_catalog
from chalicelib.model import Account, OrderState, Provider
from cli.system import LocalSystem
from tests.deployed.conftest import Deployment, SandboxPanel, eventually
from tests.deployed.proxy import PANEL, KillingProxy
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
SLUG = "proxied"
CREDIT, PRICE = 1_000_000_000, 90_000


@pytest.fixture(scope="module")
def proxy(deployment: Deployment) -> Iterator[KillingProxy]:
    """Put the proxy between the API's Lambda and everything that it calls."""
    if deployment.local is None:
        pytest.skip("only on this machine a Lambda's process can be killed")
    assert deployment.aws.endpoint is not None
    proxy = KillingProxy(deployment.aws.endpoint, deployment.sandbox_url)
    url = proxy.start()
    _add_provider(deployment, f"{url}{PANEL}/smosale/api/v2")
    functions: Any = deployment.aws.session.client("lambda", endpoint_url=deployment.aws.endpoint)
    names = [item["FunctionName"] for item in functions.list_functions()["Functions"]]
    [name] = [name for name in names if "apihandler" in name.replace("_", "").lower()]
    before = functions.get_function_configuration(FunctionName=name).get("Environment", {}).get("Variables", {})
    through = {"Variables": {**before, "AWS_ENDPOINT_URL": url}}
    functions.update_function_configuration(FunctionName=name, Environment=through)
    try:
        yield proxy
    finally:
        proxy.arm(None)
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})
        deployment.registry.remove_provider(SLUG)
        proxy.stop()


def _add_provider(deployment: Deployment, url: str) -> None:
    parts = deployment.parts
    provider = deployment.registry.add_provider(Provider(slug=SLUG, number=0, dialect="perfectpanel", url=url))
    parts.vault.promote(
        Account(SLUG), parts.vault.store_pending(Account(SLUG), "sandbox-smosale-key", token="0" * 32).version
    )
    sync_catalog(parts, provider)


def _add(deployment: Deployment, key: str, target: str) -> Any:
    service = deployment.service(SLUG)
    return deployment.v3(key, action="add", service=service, link=target, quantity=100, idempotency_key=target)


def test_kill_at_each_step(
    deployment: Deployment, panels: Callable[[str], SandboxPanel], proxy: KillingProxy, local: LocalSystem
) -> None:
    key = deployment.issue(credit=CREDIT)
    tenant = key.client.tenant
    _learn(deployment, key.key, proxy)
    steps = len(proxy.calls)
    assert steps >= 6, proxy.calls
    outcomes: dict[str, str] = {}
    for step in range(steps):
        for after in (False, True):
            target = link()
            _kill_first(deployment, key.key, proxy, step, after=after)
            first = _add(deployment, key.key, target)
            assert proxy.killed, "the process was not killed: this showed nothing"
            assert first.status_code >= 500, "a killed Lambda has no answer"
            step_name = f"{step + 1} {proxy.calls[step]} {'after' if after else 'before'}"
            proxy.arm(None)
            again = _add(deployment, key.key, target)
            assert again.status_code in {200, 202, 409}, again.text
            assert panels("smosale").purchases(target) <= 1
            if again.status_code == 200:
                assert panels("smosale").purchases(target) == 1
            outcomes[step_name] = f"{again.status_code}, {panels('smosale').purchases(target)} bought"

    _let_time_pass(deployment, tenant)
    assert eventually(lambda: not _in_state(deployment, tenant, OrderState.SENDING), seconds=5), outcomes
    for order in _in_state(deployment, tenant, OrderState.UNKNOWN):
        again = _add(deployment, key.key, order.link)
        assert (again.status_code, again.json()["order"]) == (202, order.id)
        assert panels("smosale").purchases(order.link) <= 1
    _every_cent(deployment, tenant)
    print("\n".join(f"{step}: {outcome}" for step, outcome in outcomes.items()))  # noqa: T201 - the matrix is a result
    assert local.status() is not None


def _learn(deployment: Deployment, key: str, proxy: KillingProxy) -> None:
    """Place an order from a cold process and note its calls."""
    _kill_first(deployment, key, proxy, None, after=False)
    reply = _add(deployment, key, link())
    assert reply.status_code == 200, reply.text


def _kill_first(deployment: Deployment, key: str, proxy: KillingProxy, step: int | None, *, after: bool) -> None:
    """End the process that runs, so that the next one is as cold as the first, and arm the proxy."""
    proxy.arm(0)
    deployment.v3(key, action="balance")
    proxy.arm(step, after=after)


def _in_state(deployment: Deployment, tenant: str, state: OrderState) -> list[Any]:
    return [order for order in deployment.parts.orders.page(tenant) if order.state is state]


def _let_time_pass(deployment: Deployment, tenant: str) -> None:
    """Make this tenant's orders old, instead of waiting, and let the sweeper of the deployment run."""
    for order in _in_state(deployment, tenant, OrderState.SENDING):
        then = order.attempt.send_by - 600_000_000
        deployment.parts.table.write(
            Write(
                f"T#{tenant}",
                f"ORDER#{order.id}",
                update="SET #attempt.send_by = :then",
                names={"#attempt": "attempt"},
                values={":then": then},
            )
        )
    deployment.run_job("sweep_orders")


def _every_cent(deployment: Deployment, tenant: str) -> None:
    balances = deployment.parts.wallet.balances(tenant)
    entries = list(deployment.parts.wallet.ledger(tenant))
    placed = len(_in_state(deployment, tenant, OrderState.PLACED))
    unknown = len(_in_state(deployment, tenant, OrderState.UNKNOWN))
    assert balances.available == CREDIT - (placed + unknown) * PRICE == sum(entry["available"] for entry in entries)
    assert balances.held == unknown * PRICE == sum(entry["held"] for entry in entries)
