"""A subscription holds money, its panel makes orders, and each of those is charged when it is seen, once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.clock import MINUTE, SECOND
from chalicelib.errors import StoreBusy
from chalicelib.model import Funding, Tenant
from sandbox.orders import Stage
from tests.api.http import v2, v3
from tests.market import Market

CREDIT = 1000 * SECOND
RATE = 350  # micro-USD a unit: 0.35 per 1000
FIELDS = {"username": "star", "min": 20, "max": 30, "delay": 0}


def subscribe(market: Market, key: str | None = None, **fields: Any) -> int:
    answer = v3(
        market,
        {"action": "add", "service": market.service("smosale", "Subscriptions"), **FIELDS, **fields},
        headers={"authorization": f"Bearer {key or market.key}"},
    )
    assert answer.status == 200, answer.text
    return int(answer.json["order"])


def status(market: Market, number: int) -> Any:
    market.time.at += 16 * SECOND
    return v2(market, {"action": "status", "order": number}).json


def units(market: Market, number: int) -> int:
    record = market.parts.orders.get("acme", number)
    assert record is not None
    assert record.charge == record.quantity * RATE
    return record.quantity


def test_the_hold_is_for_the_posts_that_are_known_to_come(market: Market) -> None:
    subscribe(market, posts=4, old_posts=1)
    assert market.money() == (CREDIT - 5 * 30 * RATE, 5 * 30 * RATE)
    subscribe(market)
    assert market.money() == (CREDIT - 6 * 30 * RATE, 6 * 30 * RATE)
    subscribe(market, old_posts=2)  # and posts without end: one of them
    assert market.money() == (CREDIT - 9 * 30 * RATE, 9 * 30 * RATE)


def test_each_child_is_an_order_of_ours_charged_out_of_the_hold(market: Market) -> None:
    number = subscribe(market, posts=3)
    held = 3 * 30 * RATE
    assert status(market, number) == {"status": "Active", "expiry": None, "posts": "0", "orders": []}
    market.time.at += MINUTE
    shown = status(market, number)
    assert shown["status"] == "Active"
    children = shown["orders"]
    assert len(children) == int(shown["posts"]) == 2
    spent = sum(units(market, child) for child in children) * RATE
    assert market.money() == (CREDIT - held, held - spent)

    panel = market.panel("smosale")
    for child in children:
        record = market.parts.orders.get("acme", child)
        assert record is not None
        assert record.parent == number
        assert panel.orders[record.provider_order or 0].quantity == record.quantity
        assert set(status(market, child)) == {"charge", "start_count", "status", "remains", "currency"}


def test_when_it_has_ended_the_rest_of_the_hold_goes_back(market: Market) -> None:
    number = subscribe(market, posts=3)
    market.time.at += 200 * SECOND
    shown = status(market, number)
    assert (shown["status"], len(shown["orders"])) == ("Completed", 3)
    spent = sum(units(market, child) for child in shown["orders"]) * RATE
    assert market.money() == (CREDIT - spent, 0)
    status(market, number)
    assert market.money() == (CREDIT - spent, 0)
    one = v3(market, {"action": "status", "order": number}).json
    assert (one["status"], one["charge"], one["orders"]) == ("completed", 0, shown["orders"])


def test_the_first_answer_is_given_again_whatever_the_subscription_has_spent(market: Market) -> None:
    fields = {"action": "add", "service": market.service("smosale", "Subscriptions"), **FIELDS, "posts": 2}
    first = v3(market, fields, headers={"idempotency-key": "k"})
    for _ in range(4):
        status(market, first.json["order"])
        market.time.at += MINUTE
        again = v3(market, fields, headers={"idempotency-key": "k"})
        assert (again.status, again.text) == (first.status, first.text)


def test_a_canceled_subscription_pays_for_what_it_got(market: Market) -> None:
    number = subscribe(market, posts=9)
    market.time.at += 45 * SECOND
    assert v2(market, {"action": "cancel", "orders": number}).json == [{"order": number, "cancel": 1}]
    shown = status(market, number)
    assert (shown["status"], len(shown["orders"])) == ("Canceled", 1)
    assert market.money() == (CREDIT - units(market, shown["orders"][0]) * RATE, 0)


def test_posts_without_end_are_paid_out_of_the_wallet_when_the_hold_is_used_up(market: Market) -> None:
    number = subscribe(market)
    market.time.at += 300 * SECOND
    children = status(market, number)["orders"]
    assert len(children) > 5
    spent = sum(units(market, child) for child in children) * RATE
    assert market.money() == (CREDIT - spent, 0)


def test_an_empty_wallet_is_never_overdrawn_and_the_child_waits(market: Market) -> None:
    key = market.add_tenant(Tenant(id="poor", interval=1, burst=1000), credit=45 * RATE)
    number = subscribe(market, key)
    market.time.at += 300 * SECOND
    ask = {"action": "status", "order": number, "key": key}
    first = v2(market, ask).json["orders"]
    available, held = market.money("poor")
    assert first
    assert available + held < 30 * RATE
    market.parts.wallet.credit("poor", CREDIT, reference="more")
    market.time.at += 16 * SECOND
    assert len(v2(market, ask).json["orders"]) > len(first)
    market.money("poor")


def test_nothing_is_held_where_the_provider_is_the_funding(market: Market) -> None:
    tenant = Tenant(id="direct", interval=1, burst=1000, funding=Funding.PROVIDER, providers=frozenset({"smosale"}))
    key = market.add_tenant(tenant, credit=0)
    number = subscribe(market, key, posts=2)
    market.time.at += 200 * SECOND
    shown = v2(market, {"action": "status", "order": number, "key": key}).json
    assert (shown["status"], len(shown["orders"])) == ("Completed", 2)
    assert market.money("direct") == (0, 0)


def test_many_who_look_at_once_charge_each_child_once(market: Market) -> None:
    number = subscribe(market, posts=4)
    market.time.at += 250 * SECOND
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda _: v2(market, {"action": "status", "order": number}).json, range(16)))
    final = status(market, number)
    assert final["status"] == "Completed"
    assert len(set(final["orders"])) == 4
    assert all(set(one["orders"]) <= set(final["orders"]) for one in shown)
    spent = sum(units(market, child) for child in final["orders"]) * RATE
    assert market.money() == (CREDIT - spent, 0)


@pytest.mark.parametrize("broken", ["child", "end"])
def test_what_the_store_did_not_take_in_is_taken_in_later(market: Market, broken: str) -> None:
    number = subscribe(market, posts=2)
    market.time.at += 200 * SECOND
    orders = market.parts.orders
    name = "adopt" if broken == "child" else "end_subscription"

    class Broken(type(orders)):  # type: ignore[misc] # the very class of the store
        pass

    def busy(*_given: Any, **_named: Any) -> None:
        raise StoreBusy("throttled")

    store = Broken(market.parts.table)
    setattr(store, name, busy)
    gateway, whole = replace(market.parts.gateway, orders=store), market.parts
    market.parts = replace(whole, gateway=gateway)
    shown = v2(market, {"action": "status", "order": number}).json
    assert shown["status"] == "Active"

    market.parts = whole
    final = status(market, number)
    assert (final["status"], len(final["orders"])) == ("Completed", 2)
    spent = sum(units(market, child) for child in final["orders"]) * RATE
    assert market.money() == (CREDIT - spent, 0)


def test_a_panel_without_a_word_of_children_or_charge_keeps_the_hold_for_the_operator(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    number = subscribe(market, posts=2)
    record = market.parts.orders.get("acme", number)
    assert record is not None
    order = market.panel("smosale").orders[record.provider_order or 0]
    order.subscription = None
    order.shown = {"charge": None, "remains": None, "start_count": None}
    market.move("smosale", number, Stage.COMPLETED)
    with caplog.at_level("ERROR", logger="panelgate"):
        assert v2(market, {"action": "status", "order": number}).json["status"] == "Active"
    assert "a subscription ended without a word of its orders" in caplog.messages
    assert market.money()[1] == 2 * 30 * RATE


def test_a_panel_that_names_its_charge_instead_of_children_is_paid_that(market: Market) -> None:
    number = subscribe(market, posts=2)
    record = market.parts.orders.get("acme", number)
    assert record is not None
    order = market.panel("smosale").orders[record.provider_order or 0]
    order.subscription = None
    order.shown = {"charge": "0.014", "remains": "0"}
    market.move("smosale", number, Stage.COMPLETED)
    assert v2(market, {"action": "status", "order": number}).json["status"] == "Completed"
    assert market.money() == (CREDIT - 14_000, 0)
    assert v3(market, {"action": "status", "order": number}).json["charge"] == 0.014
