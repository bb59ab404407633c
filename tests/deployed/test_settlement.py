"""Unknown outcomes through the whole stack: the schedules settle them with their own roles."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest

from chalicelib.model import Order, OrderState
from tests.deployed.conftest import Deployment, SandboxPanel, eventually
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
Panels = Callable[[str], SandboxPanel]
# No other test orders so many: an order is told by its size.
ODD = 173


@pytest.fixture
def exclusive(deployment: Deployment) -> Iterator[str]:
    """Let nobody else order at a provider; the Lambdas believe it within 30 s."""
    deployment.registry.change_provider("smosale", partial(replace, exclusive_key=True))
    yield "smosale"
    deployment.registry.change_provider("smosale", partial(replace, exclusive_key=False))


def _order(deployment: Deployment, slug: str, **more: Any) -> dict[str, Any]:
    return {"action": "add", "service": deployment.service(slug), "link": link(), "quantity": ODD, **more}


def _record(deployment: Deployment, key: str, number: int) -> Order:
    [found] = deployment.v3(key, action="orders", limit=1).json()["orders"]
    assert found["order"] == number
    [tenant] = [name for name in deployment.made if deployment.parts.orders.get(name, number)]
    order = deployment.parts.orders.get(tenant, number)
    assert order is not None
    return order


def _is_settled(deployment: Deployment, key: str, number: int) -> bool:
    deployment.run_job("settle_orders")
    return _record(deployment, key, number).state is OrderState.PLACED


def test_a_lost_order_is_found_among_the_providers_numbers(
    deployment: Deployment, panels: Panels, exclusive: str
) -> None:
    key = deployment.tenant(providers=frozenset({exclusive}))
    assert deployment.v3(key, **_order(deployment, exclusive)).status_code == 200
    deployment.run_job("settle_orders")
    panels(exclusive).fault("lost", action="add", count=1)
    wanted = _order(deployment, exclusive, quantity=ODD + 1)
    lost = deployment.v3(key, **wanted)
    assert lost.status_code == 202, lost.text
    number = lost.json()["order"]
    assert eventually(lambda: _is_settled(deployment, key, number), seconds=60), _record(deployment, key, number)
    [bought] = [row for row in panels(exclusive).admin("GET", "orders") if row["link"] == wanted["link"]]
    record = _record(deployment, key, number)
    assert record.provider_order == bought["id"]
    assert record.evidence
    assert deployment.v3(key, action="status", order=number).json()["status"] in {
        "pending",
        "processing",
        "in_progress",
    }


def test_a_pending_confirmation_is_settled_by_the_schedule(deployment: Deployment, panels: Panels) -> None:
    key = deployment.tenant(providers=frozenset({"smmafrica"}))
    panels("smmafrica").fault("pending", action="add", count=1)
    number = deployment.v3(key, **_order(deployment, "smmafrica")).json()["order"]
    assert eventually(lambda: _is_settled(deployment, key, number), seconds=60), _record(deployment, key, number)


def test_an_order_whose_caller_went_away_is_returned_to_the_same_key(deployment: Deployment, panels: Panels) -> None:
    """API Gateway's 504 looks so from here: no answer came, and the Lambda went on."""
    key = deployment.tenant(providers=frozenset({"smosale"}))
    wanted = _order(deployment, "smosale", idempotency_key="once")
    panels("smosale").fault("slow", action="add", count=1, seconds=6)
    headers = {"Authorization": f"Bearer {key}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{deployment.api_url}/v3", json=wanted, headers=headers, timeout=3, trust_env=False)
    statuses: list[int] = []

    def is_told() -> bool:
        statuses.append(deployment.v3(key, **wanted).status_code)
        return statuses[-1] == 200

    assert eventually(is_told, seconds=30), statuses
    assert set(statuses) <= {200, 409}
    assert panels("smosale").purchases(wanted["link"]) == 1
