from decimal import Decimal
from typing import Any

import pytest

from chalicelib.commands import AddCommand
from chalicelib.gateway import Credentials
from chalicelib.purchase import Deadline, Receipt
from chalicelib.session import Session
from cli.console import Console
from cli.orders import Desk
from sandbox.faults import ActiveFault
from sandbox.server import Sandbox
from tests.cli.conftest import Shell


def buy(console: Console, key: str, **fields: Any) -> int:
    """Place an order through the gateway itself."""
    gateway, now = console.parts.gateway, console.parts.clock.now()
    session = gateway.admit(Credentials(key), Deadline(now + 25_000_000))
    assert isinstance(session, Session)
    command = AddCommand.read({"service": 1001, "link": "https://example.com/p", "quantity": 1000, **fields})
    receipt = gateway.execute(session, command)
    assert isinstance(receipt, Receipt)
    return receipt.order


@pytest.fixture
def key(shell: Shell, smosale: str, acme: str) -> str:
    del smosale
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    return str(shell.ok("clients", "create", acme)["key"])


def test_show_tells_all_that_is_known(shell: Shell, stage: Console, key: str) -> None:
    order = buy(stage, key, idempotency_key="k1")
    shown = shell.ok("orders", "show", "acme", str(order))
    assert shown["order"] == order
    assert shown["tenant"] == "acme"
    assert shown["provider"] == "smosale"
    assert shown["provider_order"] == 23501
    assert shown["state"] == "placed"
    assert shown["needs_decision"] is False
    assert shown["idempotency_key"] == "k1"
    assert isinstance(shown["charge"], Decimal | int)
    assert shown["evidence"] == []
    [attempt] = shown["attempts"]
    assert attempt["number"] == 1
    assert attempt["key_version"] == stage.parts.vault.key("smosale").version
    assert attempt["send_by"].endswith("Z")
    assert [event["state"] for event in shown["history"]] == ["sending", "placed"]
    assert "placed" in shell("orders", "show", "acme", str(order)).out


def test_an_unknown_order_needs_a_decision_after_the_quiet_period(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.panels["smosale"].faults.append(ActiveFault(fault="reset", action="add"))
    order = buy(stage, key)
    shown = shell.ok("orders", "show", "acme", str(order))
    assert (shown["state"], shown["status"], shown["needs_decision"]) == ("unknown", "pending", False)
    assert shown["evidence"]
    later = Desk(stage.parts.clock.now() + 120_000_000, quiet={"smosale": 60}, usual_quiet=600)
    monkeypatch.setattr("cli.orders.Desk.of", lambda _console: later)
    assert shell.ok("orders", "show", "acme", str(order))["needs_decision"] is True


def test_list_is_newest_first(shell: Shell, stage: Console, key: str) -> None:
    shell.ok("tenants", "create", "beta")
    shell.ok("wallet", "credit", "beta", "100", "--reference", "start")
    other = shell.ok("clients", "create", "beta")["key"]
    placed = [buy(stage, key), buy(stage, other), buy(stage, key, link="https://example.com/q")]
    listed = [row["order"] for row in shell.ok("orders", "list")["orders"]]
    assert listed == placed[::-1]
    assert [row["order"] for row in shell.ok("orders", "list", "--limit", "1")["orders"]] == placed[-1:]
    assert [row["order"] for row in shell.ok("orders", "list", "--tenant", "beta")["orders"]] == [placed[1]]
    assert str(placed[0]) in shell("orders", "list").out


def test_another_tenants_order_is_none(shell: Shell, stage: Console, key: str) -> None:
    order = buy(stage, key)
    shell.ok("tenants", "create", "beta")
    assert f"beta has no order {order}" in shell.failure("orders", "show", "beta", str(order))


@pytest.mark.parametrize("arguments", ["list --tenant nobody", "show nobody 1000000"])
def test_a_tenant_that_is_not_there(shell: Shell, arguments: str) -> None:
    assert shell.failure("orders", *arguments.split()) == "There is no tenant nobody."


@pytest.mark.parametrize("arguments", ["list --limit 0", "show acme x", "show acme 0", "show acme"])
def test_wrong_use(shell: Shell, arguments: str) -> None:
    shell.misuse("orders", *arguments.split())
