from decimal import Decimal
from itertools import chain, combinations
from typing import Any

import pytest

from chalicelib.actions import Placed
from chalicelib.commands import AddCommand
from chalicelib.gateway import Credentials
from chalicelib.jobs import settle_orders
from chalicelib.model import Account, Order, Source
from chalicelib.panels.reading import MAX_PANEL_ID
from chalicelib.purchase import Deadline, Receipt
from chalicelib.session import Session
from chalicelib.settlement import needs_decision
from cli.console import Console
from cli.orders import Desk
from sandbox.faults import ActiveFault
from sandbox.orders import Stage
from sandbox.server import Sandbox
from tests.cli.conftest import Shell, give_own_key


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
    assert attempt["key_version"] == stage.parts.vault.key(Account("smosale")).version
    assert attempt["send_by"].endswith("Z")
    assert [event["state"] for event in shown["history"]] == ["sending", "placed"]
    assert "placed" in shell("orders", "show", "acme", str(order)).out


def test_show_tells_the_version_of_the_key_of_every_attempt(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    old = stage.parts.vault.key(Account("smosale")).version  # which the gateway has from now on
    sandbox.panels["smosale"].keys[:] = ["canary-the-next-key"]
    new = shell.ok("keys", "rotate", "smosale", "--watch", "0s", stdin="canary-the-next-key")["version"]
    shown = shell.ok("orders", "show", "acme", str(buy(stage, key)))
    assert shown["state"] == "placed"
    assert [(one["number"], one["key_version"]) for one in shown["attempts"]] == [(1, old), (2, new)]


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


# -- orders that need a decision ---------------------------------------------------------------------------------------

UNTIL = 2**62


def lose(sandbox: Sandbox, stage: Console, key: str, *, bought: bool = False, **fields: Any) -> int:
    """Place an order of which the answer is lost."""
    sandbox.panels["smosale"].faults.append(ActiveFault("lost" if bought else "reset", action="add", count=1))
    return buy(stage, key, **fields)


def record(stage: Console, order: int) -> Order:
    found = stage.parts.orders.get("acme", order)
    assert found is not None
    return found


def deliver_late(stage: Console, order: int, number: int) -> None:
    """Let an order be given up, and its sender come back with a number."""
    found = record(stage, order)
    assert stage.parts.orders.give_up(found, "the balance says so", until=UNTIL, source=Source.SETTLEMENT)
    assert not stage.parts.orders.place(found, Placed(number), until=UNTIL)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every quiet period be over."""
    monkeypatch.setattr(Desk, "quiet_of", lambda _desk, _provider: -3600)
    monkeypatch.setattr("chalicelib.jobs.needs_decision", lambda order, _quiet, now: needs_decision(order, -3600, now))


def wallet(shell: Shell) -> tuple[Any, Any]:
    shown = shell.ok("wallet", "show", "acme")
    return shown["balance"], shown["held"]


def queue(shell: Shell, *more: str) -> list[int]:
    return [row["order"] for row in shell.ok("orders", "list", "--needs-decision", *more)["orders"]]


def test_the_queue_is_empty_before_the_quiet_period(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = lose(sandbox, stage, key)
    assert queue(shell) == []
    assert "quiet period lasts until" in shell.failure("orders", "resolve", "acme", str(order), "--not-placed")
    assert shell.ok("orders", "show", "acme", str(order))["state"] == "unknown"


@pytest.mark.usefixtures("patient")
def test_the_queue_lists_what_waits_of_one_tenant_or_of_all(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    shell.ok("tenants", "create", "beta")
    shell.ok("wallet", "credit", "beta", "100", "--reference", "start")
    other = shell.ok("clients", "create", "beta")["key"]
    buy(stage, key)
    mine, theirs = lose(sandbox, stage, key, link="https://example.com/q"), lose(sandbox, stage, other)
    assert queue(shell) == [theirs, mine]
    assert queue(shell, "--limit", "1") == [theirs]
    assert queue(shell, "--tenant", "acme") == [mine]
    assert str(mine) in shell("orders", "list", "--needs-decision").out


@pytest.mark.usefixtures("patient")
def test_an_order_that_was_not_placed_is_paid_back_once(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = lose(sandbox, stage, key)
    assert wallet(shell) == (Decimal("99.1"), Decimal("0.9"))
    shown: Any = None
    for _ in range(2):
        shown = shell.ok("orders", "resolve", "acme", str(order), "--not-placed")
        assert (shown["state"], shown["status"], shown["needs_decision"]) == ("not_placed", "canceled", False)
        assert wallet(shell) == (100, 0)
    assert shown["history"][-1] == {"at": shown["updated_at"], "source": "operator", "state": "not_placed"}
    assert shown["evidence"][-1] == "the operator decided"
    assert queue(shell) == []


def test_an_order_that_was_placed_gets_its_number(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = lose(sandbox, stage, key, bought=True)
    shown: Any = None
    for _ in range(2):
        shown = shell.ok("orders", "resolve", "acme", str(order), "--provider-order", "23501")
        assert (shown["state"], shown["provider_order"]) == ("placed", 23501)
        assert wallet(shell) == (Decimal("99.1"), 0)
    assert [event["source"] for event in shown["history"]] == ["request", "request", "operator"]
    assert [one["key_version"] for one in shown["attempts"]] == [stage.parts.vault.key(Account("smosale")).version]
    assert "the operator found it" in shown["evidence"][-1]
    assert "nothing to decide" in shell.failure("orders", "resolve", "acme", str(order), "--not-placed")
    assert "nothing to decide" in shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "23502")


def test_a_number_that_the_provider_does_not_know_is_refused(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = lose(sandbox, stage, key)
    assert "has no order 99" in shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "99")
    assert shell.ok("orders", "show", "acme", str(order))["state"] == "unknown"


@pytest.mark.parametrize("number", [2**31, MAX_PANEL_ID])
def test_a_panels_number_may_be_longer_than_ours(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str, number: int
) -> None:
    order = lose(sandbox, stage, key)
    sandbox.panels["smosale"].faults.append(ActiveFault("html", action="status"))
    shown = shell.ok("orders", "resolve", "acme", str(order), "--provider-order", str(number))
    assert (shown["state"], shown["provider_order"]) == ("placed", number)
    assert next(stage.parts.orders.bound(Account("smosale"))).number == number
    shell.misuse("orders", "show", "acme", str(number))


def test_a_number_is_asked_for_with_the_key_that_bought(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    buy(stage, key)
    give_own_key(stage, sandbox, "smosale", "acme")
    order = lose(sandbox, stage, key, bought=True, link="https://example.com/q")
    stage.registry.set_own_key("acme", "smosale", is_used=False)
    assert shell.ok("orders", "show", "acme", str(order))["own_key"] is True
    error = shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "23501")
    assert error.startswith("smosale has no order 23501 under the key that bought it")
    shown = shell.ok("orders", "resolve", "acme", str(order), "--provider-order", "23502")
    assert (shown["state"], shown["provider_order"]) == ("placed", 23502)


def test_a_number_of_another_order_is_refused(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    buy(stage, key)
    order = lose(sandbox, stage, key, link="https://example.com/q")
    error = shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "23501")
    assert "belongs to another order" in error
    assert wallet(shell) == (Decimal("98.2"), Decimal("0.9"))


@pytest.mark.usefixtures("patient")
def test_a_number_that_the_provider_gave_another_order_is_refused(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = lose(sandbox, stage, key, bought=True)
    waiting = lose(sandbox, stage, key, link="https://example.com/q", bought=True)
    stage.parts.table.client.update_item(
        TableName=stage.parts.table.name,
        Key={"pk": {"S": "T#acme"}, "sk": {"S": f"ORDER#{waiting}"}},
        UpdateExpression="SET pending_order = :n",
        ExpressionAttributeValues={":n": {"N": "23502"}},
    )
    error = shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "23502")
    assert f"gave its number 23502 to acme's order {waiting}" in error
    error = shell.failure("orders", "resolve", "acme", str(waiting), "--not-placed")
    assert "Say --provider-order 23502" in error
    assert shell.ok("orders", "resolve", "acme", str(waiting), "--provider-order", "23502")["state"] == "placed"


def test_a_provider_that_cannot_be_asked_leaves_it_to_the_operator(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = lose(sandbox, stage, key)
    sandbox.panels["smosale"].faults.append(ActiveFault("html", action="status"))
    outcome = shell("orders", "resolve", "acme", str(order), "--provider-order", "23999")
    assert outcome.code == 0
    assert "you are believed" in outcome.err


def test_an_order_that_is_still_sent_or_that_was_refused_is_not_decided(shell: Shell, stage: Console, key: str) -> None:
    placed = record(stage, buy(stage, key))
    for state, told in (("sending", "still being sent"), ("rejected", "nothing to decide")):
        stage.parts.table.client.update_item(
            TableName=stage.parts.table.name,
            Key={"pk": {"S": "T#acme"}, "sk": {"S": f"ORDER#{placed.id}"}},
            UpdateExpression="SET #state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":state": {"S": state}},
        )
        for choice in (("--not-placed",), ("--provider-order", "23501")):
            assert told in shell.failure("orders", "resolve", "acme", str(placed.id), *choice)


def test_what_was_delivered_late_is_charged_after_all(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = lose(sandbox, stage, key, bought=True)
    deliver_late(stage, order, 23501)
    assert wallet(shell) == (100, 0)
    shown = shell.ok("orders", "show", "acme", str(order))
    assert (shown["state"], shown["late_order"], shown["needs_decision"]) == ("not_placed", 23501, True)
    assert queue(shell) == [order]
    for _ in range(2):
        shown = shell.ok("orders", "resolve", "acme", str(order), "--provider-order", "23501")
        assert (shown["state"], shown["late_order"], shown["needs_decision"]) == ("placed", None, False)
        assert wallet(shell) == (Decimal("99.1"), 0)
    assert queue(shell) == []


def test_what_was_delivered_late_has_one_number(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = lose(sandbox, stage, key, bought=True)
    lose(sandbox, stage, key, bought=True, link="https://example.com/q")
    deliver_late(stage, order, 23501)
    error = shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "23502")
    assert "delivered late as smosale's order 23501" in error


def test_a_wallet_that_is_empty_by_now_is_not_overdrawn(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = lose(sandbox, stage, key, bought=True, quantity=10_000)
    deliver_late(stage, order, 23501)
    for n in range(10):
        buy(stage, key, quantity=10_000, link=f"https://example.com/{n}")
    buy(stage, key, quantity=2_000, link="https://example.com/last")
    error = shell.failure("orders", "resolve", "acme", str(order), "--provider-order", "23501")
    assert "wallet does not hold its charge" in error
    assert queue(shell) == [order]
    shell.ok("wallet", "credit", "acme", "50", "--reference", "more")
    shell.ok("orders", "resolve", "acme", str(order), "--provider-order", "23501")
    assert wallet(shell) == (Decimal("49.2"), 0)


def test_a_loss_can_be_accepted(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = lose(sandbox, stage, key, bought=True)
    deliver_late(stage, order, 23501)
    for _ in range(2):
        shown = shell.ok("orders", "resolve", "acme", str(order), "--not-placed")
        assert (shown["state"], shown["late_order"], shown["needs_decision"]) == ("not_placed", None, False)
        assert shown["evidence"][-1] == "the operator bears the provider's order 23501"
    assert queue(shell) == []
    assert wallet(shell) == (100, 0)


# -- orders that ended without a word of their refund -----------------------------------------------------------------


def end(sandbox: Sandbox, stage: Console, key: str, **shown: Any) -> int:
    """Place an order that ends in part; what its panel shows of it."""
    order = buy(stage, key)
    panel = sandbox.panels["smosale"]
    sold = panel.orders[record(stage, order).provider_order or 0]
    panel.move(sold, Stage.PARTIAL)
    sold.shown.update({"remains": "Unknown", **shown})
    settle_orders(stage.parts)
    return order


def test_the_queue_has_what_ended_without_a_word_of_its_refund(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = end(sandbox, stage, key)
    assert queue(shell) == [order]
    shown = shell.ok("orders", "show", "acme", str(order))
    assert (shown["state"], shown["status"], shown["needs_decision"]) == ("placed", "partial", True)
    assert (shown["refund_open"], shown["refund_decided"], shown["refunded"]) == (True, None, 0)
    said = "the panel says partial, remains unknown, charge 0.9: that does not tell what goes back"
    assert shown["evidence"] == [said]
    assert said in shell("orders", "list", "--needs-decision").out
    assert wallet(shell) == (Decimal("99.1"), 0)


@pytest.mark.parametrize("amount", ["0", "0.3", "0.9"])
def test_the_operator_decides_what_goes_back(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str, amount: str
) -> None:
    order = end(sandbox, stage, key)
    for text in (f"{amount} USD went back.", f"{amount} USD had gone back by this decision before; nothing moved now."):
        assert text in shell("orders", "resolve", "acme", str(order), "--refund", amount).out
        shown = shell.ok("orders", "show", "acme", str(order))
        assert (shown["needs_decision"], shown["refund_open"]) == (False, False)
        assert (str(shown["refunded"]), str(shown["refund_decided"])) == (amount, amount)
        assert shown["evidence"][-1] == f"the operator gave back {amount} USD"
        assert wallet(shell) == (Decimal("99.1") + Decimal(amount), 0)
    assert "No refund of it" in shell.failure("orders", "resolve", "acme", str(order), "--refund", "0.2")
    assert queue(shell) == []
    assert shell("audit", "verify").code == 0


def test_no_more_goes_back_than_an_order_cost(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = end(sandbox, stage, key)
    told = shell.failure("orders", "resolve", "acme", str(order), "--refund", "0.900001")
    assert told == "At most 0.9 USD can go back: what it cost, less what went back before."
    assert wallet(shell) == (Decimal("99.1"), 0)
    assert queue(shell) == [order]


def test_only_an_open_refund_is_decided(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    told = end(sandbox, stage, key, remains="500")
    placed, lost = (
        buy(stage, key, link="https://example.com/q"),
        lose(sandbox, stage, key, link="https://example.com/r"),
    )
    for order in (told, placed, lost):
        assert "No refund of it" in shell.failure("orders", "resolve", "acme", str(order), "--refund", "0.1")
    assert wallet(shell) == (Decimal("97.75"), Decimal("0.9"))


def test_whoever_decides_otherwise_is_told_what_is_open(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    order = end(sandbox, stage, key)
    assert "Say --refund AMOUNT" in shell.failure("orders", "resolve", "acme", str(order), "--not-placed")


def test_a_decision_about_a_refund_is_an_act(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = end(sandbox, stage, key)
    for is_repeated in (False, True):
        shell.ok("orders", "resolve", "acme", str(order), "--refund", "0.3")
        act = shell.ok("audit", "--tenant", "acme")["acts"][-1]
        assert act["act"] == "orders resolve"
        assert act["arguments"]["refund"] == "0.3"
        assert act["facts"]["repeated"] is is_repeated


def test_resolve_wants_one_decision(shell: Shell, sandbox: Sandbox, stage: Console, key: str) -> None:
    order = lose(sandbox, stage, key)
    shell.misuse("orders", "resolve", "acme", str(order))
    for two in combinations((("--not-placed",), ("--provider-order", "1"), ("--refund", "0")), 2):
        shell.misuse("orders", "resolve", "acme", str(order), *chain(*two))
    for amount in ("-1", "x", "0.0000001", "none"):
        assert "write 0, or an amount" in shell.misuse("orders", "resolve", "acme", str(order), "--refund", amount)
    for number in ("0", "-1", "x", "1.0", str(MAX_PANEL_ID + 1)):
        assert "the provider's number" in shell.misuse(
            "orders", "resolve", "acme", str(order), "--provider-order", number
        )
    assert "has no order" in shell.failure("orders", "resolve", "acme", "1000000", "--not-placed")


def test_show_tells_what_the_provider_asks_and_where_each_change_comes_from(
    shell: Shell, sandbox: Sandbox, stage: Console, key: str
) -> None:
    del sandbox
    order = buy(stage, key)
    shown = shell.ok("orders", "show", "acme", str(order))
    assert (shown["provider_quote"], shown["provider_charge"]) == ("0.9", None)
    settle_orders(stage.parts)
    shown = shell.ok("orders", "show", "acme", str(order))
    assert (shown["provider_quote"], shown["provider_charge"]) == ("0.9", "0.9")
    assert [event["source"] for event in shown["history"]] == ["request", "request", "panel"]
    assert all(event["at"].endswith("Z") for event in shown["history"])
    assert "(panel)" in shell("orders", "show", "acme", str(order)).out


@pytest.mark.parametrize("arguments", ["list --tenant nobody", "show nobody 1000000"])
def test_a_tenant_that_is_not_there(shell: Shell, arguments: str) -> None:
    assert shell.failure("orders", *arguments.split()) == "There is no tenant nobody."


@pytest.mark.parametrize("arguments", ["list --limit 0", "show acme x", "show acme 0", "show acme"])
def test_wrong_use(shell: Shell, arguments: str) -> None:
    shell.misuse("orders", *arguments.split())
