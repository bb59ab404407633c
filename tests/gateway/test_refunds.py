"""What was not delivered is paid back, by the panel's own rule, once."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import money
from chalicelib.actions import Status
from chalicelib.aws.audit import findings
from chalicelib.clock import DAY, HOUR, MINUTE, SECOND
from chalicelib.errors import StoreBusy
from chalicelib.jobs import needing_decision, settle_orders
from chalicelib.model import Account, Funding, Order, OrderStatus, Reading, Tenant
from chalicelib.refunds import refund
from sandbox.orders import Stage
from tests.api.http import v2, v3
from tests.faults import FAULTS, Fault, Killed, Wire
from tests.gateway.test_types import ORDERS
from tests.market import Market
from tests.world import FOLLOWERS, LINK, World, says

PANELS = ("smosale", "smmrich", "smmleaf", "mysticsmm", "smmafrica")
CREDIT = 1000 * SECOND
PRICE = 900_000  # 1000 at 0.90 per 1000


@pytest.mark.parametrize("slug", PANELS)
@pytest.mark.parametrize(
    ("link", "status"),
    [
        ("partial", {"partial"}),
        ("cancel", {"canceled"}),
        ("cancel-partial", {"canceled"}),
        ("fail", {"canceled", "refunded"}),
        ("complete", {"completed"}),
    ],
)
def test_a_tenant_gets_back_what_the_panel_gives_back(market: Market, slug: str, link: str, status: set[str]) -> None:
    panel = market.panel(slug)
    service = market.service(slug, "Default")
    added = v3(market, {"action": "add", "service": service, "link": f"{LINK}/{link}", "quantity": 1000})
    market.time.at += 90 * SECOND
    told = v3(market, {"action": "status", "order": added.json["order"]}).json
    assert told["status"] in status
    [bought] = market.bought(slug)
    panel.funds()
    paid = money.micros(bought.charge - bought.refunded)
    assert market.money() == (CREDIT - paid, 0)
    assert money.micros(Decimal(str(told["charge"]))) == paid
    for _ in range(2):
        market.time.at += 90 * SECOND
        v2(market, {"action": "status", "order": added.json["order"]})
    assert market.money() == (CREDIT - paid, 0)


@pytest.mark.parametrize("kind", ["Package", "Custom Comments", "Mentions Custom List", "Comment Likes", "Poll"])
@pytest.mark.parametrize("link", ["partial", "cancel", "cancel-partial", "fail"])
def test_orders_of_other_types_get_back_what_the_panel_gives_back(market: Market, kind: str, link: str) -> None:
    slug, _, fields, _ = next(case for case in ORDERS if case[:2] == ("smosale", kind))
    added = v3(market, {"action": "add", "service": market.service(slug, kind), **fields, "link": f"{LINK}/{link}"})
    market.time.at += 90 * SECOND
    told = v3(market, {"action": "status", "order": added.json["order"]}).json
    [bought] = market.bought(slug)
    assert bought.refunded
    assert market.money() == (CREDIT - money.micros(bought.charge - bought.refunded), 0)
    assert money.micros(Decimal(str(told["charge"]))) == money.micros(bought.charge - bought.refunded)


def test_a_failure_midway_is_paid_back_whole_as_its_panel_does(market: Market) -> None:
    service = market.service("smosale", "Default")
    added = v3(market, {"action": "add", "service": service, "link": LINK, "quantity": 1000}).json["order"]
    market.time.at += 40 * SECOND
    assert 0 < v3(market, {"action": "status", "order": added}).json["remains"] < 1000
    market.move("smosale", added, Stage.FAILED)
    [bought] = market.bought("smosale")
    market.panel("smosale").give_back(bought)
    told = v3(market, {"action": "status", "order": added}).json
    assert (told["status"], told["charge"]) == ("canceled", 0)
    assert market.money() == (CREDIT, 0)


@pytest.mark.parametrize(
    ("said", "back"),
    [
        ({"status": "Canceled", "runs": "2", "orders": ["901", "902"]}, 0),
        ({"status": "Canceled", "runs": "0", "charge": "0", "orders": []}, 270_000),
        ({"status": "Canceled", "remains": "100"}, 90_000),
        ({"status": "Canceled", "remains": "0"}, 270_000),
    ],
)
def test_the_parent_of_a_drip_feed_that_states_no_figure_is_not_paid_back_by_guess(
    world: World, said: dict[str, Any], back: int
) -> None:
    number = world.add(quantity=100, runs=3, interval=5).order
    world.panel.behaviours["status"] = says(said)
    world.time.at += 16 * SECOND
    look(world, number)
    assert world.money() == (100 * SECOND - 270_000 + back, 0)


def test_a_drip_feed_is_paid_back_by_the_share_of_all_its_runs(market: Market) -> None:
    service = market.service("smosale", "Default")
    fields = {"action": "add", "service": service, "quantity": 100, "runs": 3, "interval": 5}
    number = v3(market, {**fields, "link": f"{LINK}/partial"}).json["order"]
    market.time.at += 90 * SECOND
    v3(market, {"action": "status", "order": number})
    [bought] = market.bought("smosale")
    assert bought.refunded
    assert market.money() == (CREDIT - money.micros(bought.charge - bought.refunded), 0)


def test_where_the_provider_is_the_funding_only_the_charge_changes(market: Market) -> None:
    tenant = Tenant(id="direct", interval=1, burst=100, funding=Funding.PROVIDER, providers=frozenset({"smosale"}))
    key = market.add_tenant(tenant, credit=0)
    fields = {"action": "add", "service": market.service("smosale", "Default"), "quantity": 100, "key": key}
    number = v2(market, {**fields, "link": f"{LINK}/cancel"}).json["order"]
    market.time.at += 90 * SECOND
    assert v2(market, {"action": "status", "order": number, "key": key}).json["charge"] == "0"
    assert market.money("direct") == (0, 0)


def order(world: World, **said: Any) -> int:
    """Order a thousand, and let its panel say this of it."""
    number = world.add().order
    world.panel.behaviours["status"] = says(said)
    world.time.at += 16 * SECOND
    return number


def look(world: World, number: int) -> Any:
    return v3(world, {"action": "status", "order": number}).json


@pytest.mark.parametrize(
    ("said", "back"),
    [
        ({"status": "Canceled"}, PRICE),
        ({"status": "CANCELLED", "remains": 0}, PRICE),
        ({"status": "Canceled", "remains": "250"}, PRICE // 4),
        ({"status": "Canceled", "remains": "-5"}, PRICE),
        ({"status": "Canceled", "remains": "9999"}, PRICE),
        ({"status": "Partial", "remains": "333"}, 299_700),
        ({"status": "Partial", "remains": "0"}, 0),
        ({"status": "Refunded", "remains": "1"}, PRICE),
        ({"status": "Fail", "charge": "0", "remains": "1000"}, PRICE),
        ({"status": "Completed", "remains": "500"}, 0),
        ({"status": "In progress", "remains": "500"}, 0),
        ({"status": "Error", "charge": "0", "remains": "1000"}, 0),
        ({"status": "Fail", "charge": "0", "remains": "500"}, PRICE),
        ({"status": "Canceled", "remains": None}, PRICE),
        ({"status": "Canceled", "remains": ""}, PRICE),
    ],
)
def test_the_rule_for_each_end(world: World, said: dict[str, Any], back: int) -> None:
    number = order(world, **said)
    assert look(world, number)["charge"] == float(money.amount(PRICE - back))
    assert world.money() == (100 * SECOND - PRICE + back, 0)


def test_many_who_look_at_once_pay_back_once(world: World) -> None:
    number = order(world, status="Partial", remains="500")
    key = world.add_tenant(Tenant(id="other"))
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda _: look(world, number), range(16)))
    assert {one["charge"] for one in shown if "charge" in one} == {0.45}
    assert key
    assert world.money() == (100 * SECOND - PRICE // 2, 0)
    refunds = [entry for entry in world.parts.wallet.ledger("acme") if entry["kind"] == "refund"]
    assert [(entry["id"], entry["available"]) for entry in refunds] == [(str(number), PRICE // 2)]


# admit, providers, the order, secret, the panel, the refund
CALLS = 6


def _look_through(world: World, wire: Wire, number: int) -> Any:
    whole = world.parts
    world.parts = world.twin(wire.client(whole.table.client), wire.client(world.secrets), wire.sender())
    told = None
    with contextlib.suppress(Killed):
        told = v3(world, {"action": "status", "order": number})
    world.parts = whole
    return told


def test_the_calls_of_a_look_that_pays_back(world: World) -> None:
    wire = Wire(world)
    _look_through(world, wire, order(world, status="Canceled"))
    assert wire.calls == CALLS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("at", range(CALLS))
def test_no_fault_pays_back_twice_or_never(world: World, at: int, fault: Fault) -> None:
    number = order(world, status="Canceled")
    told = _look_through(world, Wire(world, fault, at), number)
    if told is not None and told.status == 200 and told.json["charge"] == 0:
        assert world.money() == (100 * SECOND, 0), "it was told of a refund that was not made"
    world.time.at += MINUTE
    assert look(world, number)["charge"] == 0
    assert world.money() == (100 * SECOND, 0)


def test_a_refund_that_was_not_written_down_is_not_told_of(world: World) -> None:
    number = order(world, status="Canceled")

    class Busy(type(world.parts.orders)):  # type: ignore[misc] # the very class of the store
        def observe(self, *_given: Any, **_named: Any) -> Any:
            raise StoreBusy("throttled")

    whole = world.parts
    world.parts = replace(whole, gateway=replace(whole.gateway, orders=Busy(whole.table)))
    told = look(world, number)
    assert (told["status"], told["charge"], told["stale"]) == ("pending", 0.9, True)
    world.parts = whole
    assert look(world, number)["charge"] == 0


@given(st.integers(0, 10**15), st.integers(0, 10**12), st.integers(1, 10**12))
def test_a_share_is_exact_and_never_more_than_the_whole(value: int, part: int, whole: int) -> None:
    exact = Decimal(value) * min(part, whole) / whole
    assert abs(money.share(value, part, whole) - exact) <= Decimal("0.5")
    assert 0 <= money.share(value, part, whole) <= value
    assert money.share(value, whole, whole) == value


def test_a_subscriptions_child_that_ended_before_it_was_seen_is_not_paid_back_twice(world: World) -> None:
    service = replace(FOLLOWERS, id=3, type="Subscriptions", rate=Decimal(1), min=10, max=1000)
    world.parts.catalog.sync("smosale", [FOLLOWERS, service])
    fields = {"action": "add", "service": 3001, "username": "u", "min": 10, "max": 100, "delay": 0, "posts": 1}
    number = v3(world, fields).json["order"]
    child = {"status": "Partial", "charge": "0.04", "remains": "60"}
    world.panel.behaviours["status"] = lambda panel, asked: says(
        {"status": "Completed", "orders": [900]} if asked["order"] == str(panel.first_order) else child
    )(panel, asked)
    world.time.at += 16 * SECOND
    children = look(world, number)["orders"]
    assert world.money() == (100 * SECOND - 40_000, 0)
    world.time.at += MINUTE
    assert look(world, children[0])["charge"] == 0.04
    assert world.money() == (100 * SECOND - 40_000, 0)


@pytest.mark.parametrize(
    ("first", "last", "paid"),
    [
        (
            {"status": "In progress", "charge": "0.05", "remains": "100"},
            {"status": "Partial", "charge": "0.025"},
            25_000,
        ),
        ({"status": "Pending", "remains": "80"}, {"status": "Canceled", "remains": "80"}, 0),
        ({"status": "Canceled", "remains": "80"}, {"status": "Canceled", "remains": "80"}, 0),
        ({"status": "Refunded", "charge": "0.1"}, {"status": "Refunded", "charge": "0.1"}, 0),
        ({"status": "In progress", "charge": "0.1"}, {"status": "Fail", "charge": "0.1"}, 0),
    ],
)
def test_a_subscriptions_child_costs_in_the_end_what_its_panel_keeps(
    world: World, first: dict[str, Any], last: dict[str, Any], paid: int
) -> None:
    service = replace(FOLLOWERS, id=3, type="Subscriptions", rate=Decimal(1), min=10, max=1000)
    world.parts.catalog.sync("smosale", [FOLLOWERS, service])
    fields = {"action": "add", "service": 3001, "username": "u", "min": 10, "max": 100, "delay": 0, "posts": 1}
    number = v3(world, fields).json["order"]
    said = {"child": first}
    world.panel.behaviours["status"] = lambda panel, asked: says(
        {"status": "Completed", "orders": [900]} if asked["order"] == str(panel.first_order) else said["child"]
    )(panel, asked)
    world.time.at += 16 * SECOND
    children = look(world, number)["orders"]
    said["child"] = last
    world.time.at += 16 * SECOND
    look(world, children[0])
    assert world.money() == (100 * SECOND - paid, 0)


def test_a_total_at_the_end_is_set_against_what_the_children_cost_in_the_end(world: World) -> None:
    service = replace(FOLLOWERS, id=3, type="Subscriptions", rate=Decimal(1), min=10, max=1000)
    world.parts.catalog.sync("smosale", [FOLLOWERS, service])
    fields = {"action": "add", "service": 3001, "username": "u", "min": 10, "max": 100, "delay": 0, "posts": 2}
    number = v3(world, fields).json["order"]
    said: dict[str, dict[str, Any]] = {
        "23501": {"status": "Active", "orders": [900]},
        "900": {"status": "In progress", "charge": "0.1"},
    }
    world.panel.behaviours["status"] = lambda panel, asked: says(said[asked["order"]])(panel, asked)
    world.time.at += 16 * SECOND
    children = look(world, number)["orders"]
    said["900"] = {"status": "Partial", "charge": "0.04", "remains": "60"}
    world.time.at += 16 * SECOND
    look(world, children[0])
    said["23501"] = {"status": "Completed", "charge": "0.09"}
    world.time.at += 16 * SECOND
    look(world, number)
    assert world.money() == (100 * SECOND - 90_000, 0)


def test_an_end_is_believed_whatever_the_clock_of_the_reading_before(world: World) -> None:
    number = order(world, status="Canceled")
    record = world.parts.orders.get("acme", number)
    assert record is not None
    ahead = Reading(status=OrderStatus.IN_PROGRESS, start_count=None, remains=None, at=world.time.at + HOUR)
    record = world.parts.orders.observe(record, ahead, refunded=0, until=ahead.at)
    told = look(world, number)
    assert (told["status"], told["charge"], told["stale"]) == ("canceled", 0, False)
    assert world.money() == (100 * SECOND, 0)

    late = replace(ahead, at=ahead.at + SECOND)
    stored = world.parts.orders.observe(replace(record, refunded=PRICE), late, refunded=PRICE, until=late.at)
    assert stored.reading is not None
    assert stored.reading.status is OrderStatus.CANCELED


def test_a_live_reading_far_ahead_gives_way_to_a_later_look(world: World) -> None:
    number = order(world, status="In progress", remains="10")
    record = world.parts.orders.get("acme", number)
    assert record is not None
    ahead = Reading(status=OrderStatus.PENDING, start_count=None, remains=None, at=world.time.at + HOUR)
    world.parts.orders.observe(record, ahead, refunded=0, until=ahead.at)
    told = look(world, number)
    assert (told["status"], told["stale"]) == ("in_progress", False)


# -- what no panel tells -----------------------------------------------------------------------------------------------

UNTOLD = [
    {"status": "Partial", "remains": "Unknown"},
    {"status": "Partial"},
    {"status": "Canceled", "remains": "1.000", "charge": "0.45"},
]


def record(world: World, number: int) -> Order:
    found = world.parts.orders.get("acme", number)
    assert found is not None
    return found


def queue(world: World) -> list[int]:
    return [one.id for one in needing_decision(world.parts)]


def later(world: World, number: int, **said: Any) -> Order:
    """Let a panel say this of an order that has ended, and the schedule look again."""
    world.panel.behaviours["status"] = says(said)
    world.time.at += DAY + MINUTE
    settle_orders(world.parts)
    return record(world, number)


def undecided(world: World, **said: Any) -> Order:
    number = order(world, **(said or UNTOLD[0]))
    look(world, number)
    found = record(world, number)
    assert found.refund_open
    return found


def decide(world: World, found: Order, amount: int) -> bool:
    return world.parts.orders.decide_refund(found, amount, until=world.time.at + MINUTE)


@pytest.mark.parametrize("said", UNTOLD)
def test_the_operator_is_asked_once_what_no_panel_tells(
    world: World, caplog: pytest.LogCaptureFixture, said: dict[str, str]
) -> None:
    number = order(world, **said)
    with caplog.at_level("ERROR", logger="panelgate"):
        look(world, number)
        later(world, number, **said)
    assert caplog.messages.count("a refund cannot be computed") == 1
    assert queue(world) == [number]
    assert len(record(world, number).evidence) == 1
    assert world.money() == (100 * SECOND - PRICE, 0)
    assert list(world.parts.orders.unsettled(Account("smosale"))) == [], "its purchase is known"
    assert list(findings(world.parts.table)) == []


@pytest.mark.parametrize(
    ("first", "last", "back"),
    [
        (UNTOLD[0], {"status": "Partial", "remains": "250"}, PRICE // 4),
        (UNTOLD[0], {"status": "Partial", "remains": "0"}, 0),
        (UNTOLD[1], {"status": "Canceled", "remains": "0"}, PRICE),
        (UNTOLD[1], {"status": "Refunded"}, PRICE),
        (UNTOLD[2], {"status": "Canceled", "remains": "500"}, PRICE // 2),
    ],
)
def test_what_a_panel_tells_after_all_need_not_be_decided(
    world: World, first: dict[str, str], last: dict[str, str], back: int
) -> None:
    found = later(world, undecided(world, **first).id, **last)
    assert (found.refund_open, found.refunded) == (False, back)
    assert queue(world) == []
    assert list(world.parts.orders.undecided(Account("smosale"))) == []
    assert world.money() == (100 * SECOND - PRICE + back, 0)


@pytest.mark.parametrize(
    ("last", "back", "is_asked"),
    [
        (UNTOLD[1], 270_000, False),
        ({"status": "Partial", "remains": "250"}, 270_000, False),
        ({"status": "Partial", "remains": "500"}, PRICE // 2, False),
        ({"status": "Refunded"}, PRICE, False),
        ({"status": "Canceled", "remains": "1.000"}, 270_000, True),
    ],
)
def test_what_the_operator_gave_back_is_counted_in_what_a_panel_tells_later(
    world: World, last: dict[str, str], back: int, *, is_asked: bool
) -> None:
    asked = undecided(world)
    assert decide(world, asked, 270_000)
    assert queue(world) == []
    found = later(world, asked.id, **last)
    assert (found.refunded, found.refund_open) == (back, is_asked)
    assert found.refund_decided == (None if is_asked else 270_000)
    assert queue(world) == ([asked.id] if is_asked else [])
    assert world.money() == (100 * SECOND - PRICE + back, 0)
    assert list(findings(world.parts.table)) == []


@pytest.mark.parametrize("amount", [None, 270_000])
def test_silence_says_no_more_than_a_figure_that_cannot_be_read(world: World, amount: int | None) -> None:
    """Canceled, and nothing else, means never delivered; but this panel has charged for some of it."""
    asked = undecided(world, **UNTOLD[2])
    if amount is not None:
        assert decide(world, asked, amount)
    found = later(world, asked.id, status="Canceled")
    assert (found.refund_open, found.refunded) == (amount is None, amount or 0)
    assert world.money() == (100 * SECOND - PRICE + (amount or 0), 0)


@pytest.mark.parametrize("amount", [0, 270_000, PRICE])
def test_a_reading_that_tells_finds_that_the_operator_was_faster(world: World, amount: int) -> None:
    asked = undecided(world)
    assert decide(world, asked, amount)
    told = Reading(status=OrderStatus.PARTIAL, start_count=None, remains=500, at=world.time.at)
    stored = world.parts.orders.observe(asked, told, refunded=PRICE // 2, until=world.time.at + MINUTE)
    assert (stored.refunded, stored.refund_open, stored.refund_decided) == (amount, False, amount)
    assert world.money() == (100 * SECOND - PRICE + amount, 0)


@pytest.mark.parametrize("amount", [0, PRICE // 2])
def test_the_operator_finds_that_a_reading_that_tells_was_faster(world: World, amount: int) -> None:
    asked = undecided(world)
    told = Reading(status=OrderStatus.PARTIAL, start_count=None, remains=500, at=world.time.at)
    world.parts.orders.observe(asked, told, refunded=PRICE // 2, until=world.time.at + MINUTE)
    assert not decide(world, asked, amount)
    assert world.money() == (100 * SECOND - PRICE // 2, 0)


def test_a_second_question_is_not_answered_by_the_first_decision(world: World) -> None:
    asked = undecided(world)
    assert decide(world, asked, 0)
    again = later(world, asked.id, status="Canceled", remains="1.000")
    assert not decide(world, replace(asked, refunded=1), 0), "whoever has seen something else"
    told = Reading(status=OrderStatus.CANCELED, start_count=None, remains=500, at=world.time.at)
    world.parts.orders.observe(again, told, refunded=PRICE // 2, until=world.time.at + MINUTE)
    assert not decide(world, again, 0)
    assert queue(world) == []


@pytest.mark.parametrize("amounts", [[270_000], [0], [0, 270_000, 450_000]])
def test_of_many_decisions_at_once_one_holds(world: World, amounts: list[int]) -> None:
    asked = undecided(world)
    tried = [amounts[n % len(amounts)] for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        held = list(pool.map(lambda amount: decide(world, asked, amount), tried))
    [decided] = {amount for amount, holds in zip(tried, held, strict=True) if holds}
    assert all(holds for amount, holds in zip(tried, held, strict=True) if amount == decided), "it was said before"
    assert world.money() == (100 * SECOND - PRICE + decided, 0)
    assert list(findings(world.parts.table)) == []


def test_an_operator_and_a_schedule_at_once_leave_one_refund(world: World) -> None:
    asked = undecided(world)
    told = Reading(status=OrderStatus.PARTIAL, start_count=None, remains=500, at=world.time.at)
    until = world.time.at + MINUTE
    with ThreadPoolExecutor(8) as pool:
        readings = [
            pool.submit(world.parts.orders.observe, asked, told, refunded=PRICE // 2, until=until) for _ in range(4)
        ]
        decisions = [pool.submit(decide, world, asked, 270_000) for _ in range(4)]
    is_decided = {one.result() for one in decisions}
    assert len(is_decided) == 1
    back = 270_000 if is_decided == {True} else PRICE // 2
    assert {one.result().refunded for one in readings} == {back}
    assert world.money() == (100 * SECOND - PRICE + back, 0)
    assert list(findings(world.parts.table)) == []


def test_the_operator_is_asked_about_a_subscriptions_order_too(world: World) -> None:
    service = replace(FOLLOWERS, id=3, type="Subscriptions", rate=Decimal(1), min=10, max=1000)
    world.parts.catalog.sync("smosale", [FOLLOWERS, service])
    fields = {"action": "add", "service": 3001, "username": "u", "min": 10, "max": 100, "delay": 0, "posts": 1}
    number = v3(world, fields).json["order"]
    said: dict[str, dict[str, Any]] = {
        "23501": {"status": "Completed", "orders": [900]},
        "900": {"status": "In progress", "charge": "0.1"},
    }
    world.panel.behaviours["status"] = lambda panel, asked: says(said[asked["order"]])(panel, asked)
    world.time.at += 16 * SECOND
    [child] = look(world, number)["orders"]
    said["900"] = {"status": "Partial"}
    world.time.at += 16 * SECOND
    look(world, child)
    assert queue(world) == [child]
    assert decide(world, record(world, child), 40_000)
    assert world.money() == (100 * SECOND - 60_000, 0)
    assert list(findings(world.parts.table)) == []


def test_nobody_is_asked_where_all_has_gone_back(world: World) -> None:
    untold = Status(OrderStatus.PARTIAL, "Partial", charge=None, currency=None, start_count=None, remains=None)
    reading = Reading(status=OrderStatus.PARTIAL, start_count=None, remains=None, at=world.time.at)
    whole = record(world, world.add().order)
    assert refund(whole, reading, untold) is None
    assert refund(replace(whole, refunded=PRICE), reading, untold) == PRICE
    assert refund(replace(whole, charge=0), reading, untold) == 0
