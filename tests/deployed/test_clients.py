"""Programs written for other panels work with this one when only URL and key are changed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deployed.conftest import Deployment, SandboxPanel
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
CLIENTS = Path(__file__).parent / "clients"
PROVIDER = "smosale"
# Nobody has an order or a refill of this id: ours are above (contract 7).
NONE = 999_999
NO_ORDER, NO_REFILL = {"error": "Incorrect order ID"}, {"error": "Refill not found"}
REFILL_STATUSES = {"Pending", "In progress", "Completed", "Rejected"}
# 50 of a service at 0.90 per 1000.
QUANTITY, CHARGE = 50, "0.045"


@dataclass(frozen=True)
class Client:
    """One program, pointed at the gateway."""

    command: tuple[str, ...]
    url: str
    key: str

    def run(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Return the results of the calls, in one run."""
        ran = subprocess.run(  # noqa: S603 - our own programs
            [*self.command, self.url, self.key],
            input=json.dumps(calls),
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert not ran.stderr
        results: list[Any] = json.loads(ran.stdout)
        assert len(results) == len(calls)
        return results

    def order(self, service: int, *targets: str) -> list[int]:
        """Order at each link and return the orders' ids."""
        wanted = ({"service": service, "link": target, "quantity": QUANTITY} for target in targets)
        placed = self.run(*(("order", order) for order in wanted))
        assert [list(answer) for answer in placed] == [["order"]] * len(targets), placed
        assert all(type(answer["order"]) is int for answer in placed)
        return [answer["order"] for answer in placed]


def _python() -> tuple[str, ...]:
    return (sys.executable, str(CLIENTS / "api.py"))


def _node() -> tuple[str, ...]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on this machine")
    return (node, str(CLIENTS / "api.mjs"))


def _php() -> tuple[str, ...]:
    php = shutil.which("php")
    if php is None:
        pytest.skip("php is not on this machine (Debian: php-cli and php-curl)")
    modules = subprocess.run([php, "-m"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - found above
    if "curl" not in modules.split():
        pytest.skip("php has no curl on this machine (Debian: php-curl)")
    return (php, str(CLIENTS / "api.php"))


@pytest.fixture(params=[_python, _node, _php], ids=["python", "node", "php"])
def client(request: pytest.FixtureRequest, deployment: Deployment) -> Client:
    key = deployment.tenant(providers=frozenset({PROVIDER}))
    return Client(request.param(), f"{deployment.api_url}/v2", key)


@pytest.fixture
def panel(panels: Callable[[str], SandboxPanel]) -> SandboxPanel:
    return panels(PROVIDER)


@pytest.fixture
def service(deployment: Deployment) -> int:
    return deployment.service(PROVIDER)


def is_number_text(value: object) -> bool:
    return isinstance(value, str) and value.isdigit()


def test_balance_and_services(client: Client, service: int) -> None:
    balance, services = client.run(("balance",), ("services",))
    assert balance == {"balance": "1000", "currency": "USD"}
    [row] = [row for row in services if row["service"] == service]
    assert row == {
        "service": service,
        "name": "Followers",
        "type": "Default",
        "category": "First Category",
        "rate": "0.9",
        "min": "50",
        "max": "10000",
        "refill": True,
        "cancel": True,
        "dripfeed": False,
    }


def test_orders_are_bought_once_each(client: Client, panel: SandboxPanel, service: int) -> None:
    targets = [link(), link()]
    first, second = client.order(service, *targets)
    assert first != second
    assert [panel.purchases(target) for target in targets] == [1, 1]
    [balance] = client.run(("balance",))
    assert balance == {"balance": "999.91", "currency": "USD"}


def test_status_of_one_and_of_several(client: Client, panel: SandboxPanel, service: int) -> None:
    targets = [link(), link()]
    done, running = client.order(service, *targets)
    panel.move(targets[0], "completed", remains=0, start_count=3572)
    panel.move(targets[1], "in_progress", remains=20, start_count=100)
    status, several, none = client.run(("status", done), ("multiStatus", [done, running, NONE]), ("status", NONE))
    completed = {"charge": CHARGE, "start_count": "3572", "status": "Completed", "remains": "0", "currency": "USD"}
    progress = {"charge": CHARGE, "start_count": "100", "status": "In progress", "remains": "20", "currency": "USD"}
    assert status == completed
    assert several == {str(done): completed, str(running): progress, str(NONE): NO_ORDER}
    assert none == NO_ORDER


def test_refills_of_one_and_of_several(client: Client, panel: SandboxPanel, service: int) -> None:
    targets = [link(), link()]
    first, second = client.order(service, *targets)
    for target in targets:
        panel.move(target, "completed", remains=0)
    one, several, none = client.run(("refill", first), ("multiRefill", [second, NONE]), ("refill", NONE))
    assert list(one) == ["refill"]
    assert is_number_text(one["refill"]), "text for one"
    refills = [int(one["refill"]), several[0]["refill"]]
    assert type(refills[1]) is int, "a number in a batch"
    assert several == [{"order": second, "refill": refills[1]}, {"order": NONE, "refill": NO_ORDER}]
    assert none == NO_ORDER

    status, statuses, unknown = client.run(
        ("refillStatus", refills[0]), ("multiRefillStatus", [*refills, NONE]), ("refillStatus", NONE)
    )
    assert list(status) == ["status"]
    assert status["status"] in REFILL_STATUSES
    assert [set(item) for item in statuses] == [{"refill", "status"}] * 3
    assert [item["refill"] for item in statuses] == [*refills, NONE]
    assert {item["status"] for item in statuses[:2]} <= REFILL_STATUSES
    assert statuses[2]["status"] == unknown == NO_REFILL


def test_cancels(client: Client, panel: SandboxPanel, service: int) -> None:
    [order] = client.order(service, link())
    asked = len(panel.requests("cancel"))
    [canceled] = client.run(("cancel", [order, NONE]))
    assert canceled == [{"order": order, "cancel": 1}, {"order": NONE, "cancel": NO_ORDER}]
    assert len(panel.requests("cancel")) == asked + 1, "one call for the batch, and none for what nobody has"


def test_errors_are_told_as_the_protocol_does(client: Client, service: int) -> None:
    few = {"service": service, "link": link(), "quantity": QUANTITY - 1}
    nowhere = {"service": service, "quantity": QUANTITY}
    nothing = {"service": 999, "link": link(), "quantity": QUANTITY}
    answers = client.run(("order", few), ("order", nowhere), ("order", nothing))
    sentences = ["Quantity less than minimal 50", "Incorrect link", "Incorrect service ID"]
    assert answers == [{"error": sentence} for sentence in sentences]
    [stranger] = Client(client.command, client.url, "nobody").run(("balance",))
    assert stranger == {"error": "Invalid API key"}
