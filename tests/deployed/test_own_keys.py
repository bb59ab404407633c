"""Tenants with keys of their own, through the whole stack: each order stays with the account that bought it."""

import secrets
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest

from chalicelib.aws.clients import IssuedKey
from chalicelib.model import Account, Funding, OrderState
from tests.deployed.conftest import Deployment, SandboxPanel, eventually
from tests.deployed.test_way import link, quantity

pytestmark = pytest.mark.deployed
Panels = Callable[[str], SandboxPanel]


@dataclass
class Owners:
    """Tenants who get accounts of their own at the panels, and may lose them."""

    deployment: Deployment
    panels: Panels
    given: set[Account] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    def give(self, tenant: str, slug: str, *, balance: int = 1000) -> str:
        """Open an account of a tenant's own at a panel, have its orders bought with it, and return its key."""
        key, account = f"own-{secrets.token_hex(12)}", Account(slug, tenant)
        self.panels(slug).admin("PUT", f"customers/{tenant}", {"keys": [key], "balance": str(balance)})
        vault = self.deployment.parts.vault
        vault.promote(account, vault.store_pending(account, key, token=str(uuid.uuid4())).version)
        self.deployment.registry.set_own_key(tenant, slug, is_used=True)
        self.given.add(account)
        self.keys.add(key)
        return key

    def take(self, tenant: str, slug: str) -> None:
        self.deployment.registry.set_own_key(tenant, slug, is_used=False)

    def bought(self, slug: str, target: str) -> str:
        """Return which customer of a panel bought the one order for a link."""
        [order] = [one for one in self.panels(slug).admin("GET", "orders") if one["link"] == target]
        return str(order["customer"])

    def askers(self, slug: str, action: str) -> Mapping[int, set[str]]:
        """Return the accounts' keys with which a panel was asked for an action, by its orders that it was about.

        A warm container may first try the operator's key of another test, which the panel takes no more.
        """
        taken = {f"sandbox-{slug}-key", *self.keys}
        keys: dict[int, set[str]] = defaultdict(set)
        for row in self.panels(slug).requests(action):
            body = dict(parse_qsl(row["body"]))
            for number in (body.get("order") or body["orders"]).split(","):
                keys[int(number)] |= taken & {body["key"]}
        return keys


@pytest.fixture
def owners(deployment: Deployment, panels: Panels) -> Iterator[Owners]:
    owners = Owners(deployment, panels)
    yield owners
    for account in owners.given:
        deployment.parts.vault.forget(account)


def add(deployment: Deployment, client: IssuedKey, slug: str, target: str, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "service": deployment.service(slug),
        "link": target,
        "quantity": quantity(deployment, slug),
    }
    return deployment.v3(client.key, action="add", **fields, **more)


@pytest.fixture
def client(deployment: Deployment, panels: Panels) -> IssuedKey:
    del panels
    return deployment.issue(providers=frozenset({"smosale", "smmafrica"}))


def test_orders_from_before_during_and_after_an_own_key_stay_with_their_accounts(
    deployment: Deployment, panels: Panels, client: IssuedKey, owners: Owners
) -> None:
    tenant, targets, numbers = client.client.tenant, [link() for _ in range(3)], []
    operators = "sandbox-smosale-key"
    numbers.append(add(deployment, client, "smosale", targets[0]).json()["order"])
    own = owners.give(tenant, "smosale")
    numbers.append(add(deployment, client, "smosale", targets[1]).json()["order"])
    owners.take(tenant, "smosale")
    numbers.append(add(deployment, client, "smosale", targets[2]).json()["order"])
    assert [owners.bought("smosale", target) for target in targets] == ["", tenant, ""]

    rows = deployment.v3(client.key, action="status", orders=numbers).json()["orders"]
    assert [(row["order"], row["stale"]) for row in rows] == [(number, False) for number in numbers]
    for target in targets:
        panels("smosale").move(target, "Completed")
    refills = deployment.v3(client.key, action="refill", orders=numbers).json()["orders"]
    assert not [row for row in refills if "error" in row], refills
    told = deployment.v3(client.key, action="refill_status", refills=[row["refill"] for row in refills]).json()
    assert {row["status"] for row in told["refills"]} <= {"pending", "in_progress", "completed"}
    for target in targets:
        panels("smosale").move(target, "In progress")
    canceled = deployment.v3(client.key, action="cancel", orders=numbers).json()["orders"]
    assert not [row for row in canceled if "error" in row], canceled

    placed = [deployment.parts.orders.get(tenant, number) for number in numbers]
    for action in ("status", "refill", "cancel"):
        askers = owners.askers("smosale", action)
        for order, key in zip(placed, (operators, own, operators), strict=True):
            assert order is not None
            assert askers[order.provider_order or 0] == {key}


@pytest.mark.parametrize("trouble", ["rejected", "no funds"])
def test_an_own_key_that_fails_is_not_replaced_by_the_operators(
    deployment: Deployment, panels: Panels, client: IssuedKey, owners: Owners, trouble: str
) -> None:
    tenant, target = client.client.tenant, link()
    key = owners.give(tenant, "smosale", balance=0)
    if trouble == "rejected":
        panels("smosale").admin("PUT", f"customers/{tenant}", {"keys": [], "balance": "1000"})
    refused = add(deployment, client, "smosale", target)
    assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert key not in refused.text
    assert panels("smosale").purchases(target) == 0
    heard = [row["body"] for row in panels("smosale").requests("add") if target.rpartition("/")[2] in row["body"]]
    assert heard
    assert all(dict(parse_qsl(body))["key"] == key for body in heard)
    assert deployment.v3(client.key, action="balance").json()["balance"] == 1000


def test_the_schedule_asks_with_the_own_key_too(
    deployment: Deployment, panels: Panels, client: IssuedKey, owners: Owners
) -> None:
    tenant = client.client.tenant
    owners.give(tenant, "smmafrica")
    panels("smmafrica").fault("pending", action="add", count=1)
    lost = add(deployment, client, "smmafrica", link())
    assert lost.status_code == 202, lost.text
    owners.take(tenant, "smmafrica")

    def is_settled() -> bool:
        deployment.run_job("settle_orders")
        order = deployment.parts.orders.get(tenant, lost.json()["order"])
        assert order is not None
        assert order.own_key
        return order.state is OrderState.PLACED

    assert eventually(is_settled, seconds=60)


def test_the_balance_is_the_accounts_that_pays(deployment: Deployment, panels: Panels, owners: Owners) -> None:
    del panels
    direct = deployment.issue(credit=0, funding=Funding.PROVIDER, providers=frozenset({"smosale"}))
    owners.give(direct.client.tenant, "smosale", balance=17)
    assert deployment.v3(direct.key, action="balance").json() == {"balance": 17, "currency": "USD"}
    added = add(deployment, direct, "smosale", link())
    assert added.status_code == 200, added.text
    assert deployment.v3(direct.key, action="balance").json()["balance"] < 17


def test_tenants_with_and_without_own_keys_do_not_cross(deployment: Deployment, panels: Panels, owners: Owners) -> None:
    """All order and ask at once, in containers that serve every one of them."""
    clients = [deployment.issue(providers=frozenset({"smosale"})) for _ in range(4)]
    names = [client.client.tenant for client in clients]
    keys = {names[0]: "sandbox-smosale-key", **{name: owners.give(name, "smosale") for name in names[1:]}}

    def order(client: IssuedKey) -> tuple[str, str, int]:
        # A container that starts on a busy machine may have no time to read a key: nothing is bought then.
        for target in (link() for _ in range(5)):
            added = add(deployment, client, "smosale", target)
            if added.status_code == 200:
                number = added.json()["order"]
                assert deployment.v3(client.key, action="status", order=number).status_code == 200
                return client.client.tenant, target, number
            assert added.status_code == 503, added.text
            assert panels("smosale").purchases(target) == 0
        pytest.fail("nothing can be bought")

    with ThreadPoolExecutor(6) as threads:
        ordered = list(threads.map(order, clients * 8))
    bought = {one["link"]: one["customer"] for one in panels("smosale").admin("GET", "orders")}
    askers = owners.askers("smosale", "status")
    for tenant, target, number in ordered:
        assert bought[target] == (tenant if tenant != names[0] else "")
        placed = deployment.parts.orders.get(tenant, number)
        assert placed is not None
        assert askers[placed.provider_order or 0] <= {keys[tenant]}
    assert Counter(tenant for tenant, *_ in ordered) == dict.fromkeys(names, 8)
