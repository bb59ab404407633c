"""What a tenant guards itself by: what its orders of a day may cost, and one active order on a link."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.clock import SECOND
from chalicelib.errors import Code, Refusal, StoreBusy
from chalicelib.jobs import sweep_orders
from chalicelib.model import Funding, OrderState, Tenant
from chalicelib.panels.dialect import Reply
from chalicelib.wiring import Parts
from tests.api.http import v2, v3
from tests.faults import Killed, StoreFault, acceptances_lost, faulty, is_acceptance
from tests.market import Market
from tests.world import (
    FOLLOWERS,
    LINK,
    PretendPanel,
    World,
    buys,
    buys_and_loses_the_answer,
    cannot_be_reached,
    loses_the_request,
    says,
)

CREDIT = 100 * SECOND
PRICE = 900_000  # 1000 at 0.90 per 1000
TODAY, TOMORROW = "2027-01-15", "2027-01-16"
TO_MIDNIGHT = 16 * 3600  # seconds from the world's beginning, 08:00
ADD = {"action": "add", "service": 1001, "link": LINK, "quantity": 1000}


def guard(world: World, **settings: Any) -> None:
    """Change the settings of the tenant that the world begins with."""
    world.registry.change_tenant("acme", partial(replace, **settings))


def told(add: Callable[[], object]) -> Code | None:
    """Return the code that an `add` is refused with, None if it is not."""
    try:
        add()
    except Refusal as refusal:
        return refusal.code
    return None


def dies(_panel: PretendPanel, _fields: dict[str, str]) -> Reply:
    raise Killed


@pytest.fixture
def daily(world: World) -> World:
    """Return a world whose tenant may spend two orders' price a day."""
    guard(world, daily_spend=2 * PRICE)
    return world


@pytest.fixture
def sole(world: World) -> World:
    """Return a world whose tenant has one active order on a link."""
    guard(world, refuse_duplicate_link=True)
    return world


# -- what the orders of a day may cost ---------------------------------------------------------------------------------


def test_a_day_is_spent_to_the_last_micro_dollar_and_not_beyond(daily: World) -> None:
    daily.add(quantity=1999)
    assert told(lambda: daily.add(quantity=50)) is Code.SPEND_LIMIT_REACHED
    guard(daily, daily_spend=PRICE * 1999 // 1000 + 45_000)
    daily.add(quantity=50)
    assert daily.spent() == {TODAY: PRICE * 2049 // 1000}
    assert told(lambda: daily.add(quantity=50)) is Code.SPEND_LIMIT_REACHED
    assert len(daily.panel.purchases) == 2
    assert daily.money() == (CREDIT - PRICE * 2049 // 1000, 0)


def test_one_order_beyond_the_whole_limit_is_refused_on_a_day_without_orders(daily: World) -> None:
    assert told(lambda: daily.add(quantity=2001)) is Code.SPEND_LIMIT_REACHED
    assert daily.spent() == {}
    assert daily.money() == (CREDIT, 0)
    daily.add(quantity=2000)


def test_a_tenant_without_a_limit_counts_nothing(world: World) -> None:
    order = world.parts.orders.get("acme", world.add().order)
    assert order is not None
    assert order.budget is None
    assert world.spent() == {}


def test_the_day_ends_at_midnight_utc_to_the_microsecond(daily: World) -> None:
    daily.add(quantity=2000)
    daily.time.at += TO_MIDNIGHT * SECOND - 1
    assert told(daily.add) is Code.SPEND_LIMIT_REACHED
    daily.time.at += 1
    daily.add()
    assert daily.spent() == {TODAY: 2 * PRICE, TOMORROW: PRICE}


def test_the_limit_holds_for_orders_that_spend_the_providers_money(world: World) -> None:
    own = {"funding": Funding.PROVIDER, "providers": frozenset({"smosale"})}
    key = world.add_tenant(Tenant(id="direct", daily_spend=PRICE, **own), credit=0)  # type: ignore[arg-type]
    world.add(key)
    assert told(lambda: world.add(key)) is Code.SPEND_LIMIT_REACHED
    assert world.spent("direct") == {TODAY: PRICE}
    world.panel.behaviours["add"] = cannot_be_reached
    world.registry.change_tenant("direct", partial(replace, daily_spend=2 * PRICE))
    assert told(lambda: world.add(key)) is Code.SERVICE_UNAVAILABLE
    assert world.spent("direct") == {TODAY: PRICE}
    assert world.money("direct") == (0, 0)


def test_a_limit_counts_from_when_it_is_set_and_may_be_lowered_and_ended(world: World) -> None:
    world.add()
    guard(world, daily_spend=2 * PRICE)
    world.add()
    guard(world, daily_spend=PRICE // 2)
    assert told(lambda: world.add(quantity=50)) is Code.SPEND_LIMIT_REACHED
    guard(world, daily_spend=None)
    world.add()
    assert world.spent() == {TODAY: PRICE}


def test_each_tenant_has_days_of_its_own(daily: World) -> None:
    daily.add(quantity=2000)
    other = daily.add_tenant(Tenant(id="other", daily_spend=PRICE))
    daily.add(other)
    assert daily.spent("other") == {TODAY: PRICE}


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (cannot_be_reached, Code.SERVICE_UNAVAILABLE),
        (says({"error": "Incorrect link"}), Code.INVALID_LINK),
        (says({"error": "Not enough funds on balance"}), Code.SERVICE_UNAVAILABLE),
    ],
)
def test_what_was_not_bought_is_given_back(daily: World, behaviour: Any, code: Code) -> None:
    daily.panel.behaviours["add"] = behaviour
    for _ in range(3):
        assert told(daily.add) is code
    assert daily.spent() == {TODAY: 0}
    daily.panel.behaviours.clear()
    daily.add(quantity=2000)


def test_it_is_given_back_to_the_day_that_counted_it(daily: World) -> None:
    def is_reached_too_late(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        daily.time.sleep(2)
        return cannot_be_reached(panel, fields)

    daily.add()
    daily.time.at += TO_MIDNIGHT * SECOND - 1
    daily.panel.behaviours["add"] = is_reached_too_late
    assert told(daily.add) is Code.SERVICE_UNAVAILABLE
    assert daily.spent() == {TODAY: PRICE}
    daily.panel.behaviours.clear()
    daily.add(quantity=2000)
    assert daily.spent() == {TODAY: PRICE, TOMORROW: 2 * PRICE}


@pytest.mark.parametrize("behaviour", [buys_and_loses_the_answer, loses_the_request])
def test_an_unknown_outcome_stays_counted(daily: World, behaviour: Any) -> None:
    daily.panel.behaviours["add"] = behaviour
    assert daily.add(quantity=2000).pending
    assert told(lambda: daily.add(quantity=50)) is Code.SPEND_LIMIT_REACHED
    assert daily.spent() == {TODAY: 2 * PRICE}


def test_what_proves_not_to_be_placed_is_given_back_once(daily: World) -> None:
    def is_called_unknown_before_it_fails(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        twin = daily.twin(clock=replace(daily.parts.clock, now=lambda: daily.time.at + 300 * SECOND))
        assert sweep_orders(twin)["done"] == 1
        return cannot_be_reached(panel, fields)

    daily.panel.behaviours["add"] = is_called_unknown_before_it_fails
    order = daily.parts.orders.get("acme", daily.add().order)
    assert order is not None
    assert order.state is OrderState.NOT_PLACED
    assert daily.spent() == {TODAY: 0}
    daily.parts.orders.reject(order, None, until=daily.time.at + SECOND)
    assert daily.spent() == {TODAY: 0}
    assert daily.money() == (CREDIT, 0)


def test_rejecting_twice_gives_back_once(daily: World) -> None:
    daily.panel.behaviours["add"] = dies
    for _ in range(2):
        with pytest.raises(Killed):
            daily.add()
    first = next(iter(daily.parts.orders.page("acme")))
    for _ in range(2):
        assert daily.parts.orders.reject(first, None, until=daily.time.at + SECOND)
    assert daily.spent() == {TODAY: PRICE}


def test_a_lost_day_does_not_keep_the_money_from_going_back(daily: World) -> None:
    def is_gone(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        daily.parts.table.delete_many([("T#acme", f"SPEND#{TODAY}")])
        return cannot_be_reached(panel, fields)

    daily.panel.behaviours["add"] = is_gone
    assert told(daily.add) is Code.SERVICE_UNAVAILABLE
    assert daily.money() == (CREDIT, 0)
    assert daily.spent() == {TODAY: 0}


def test_a_refund_after_delivery_makes_no_room(daily: World) -> None:
    order = daily.add(quantity=2000).order
    daily.panel.behaviours["status"] = says({"status": "Canceled", "charge": "0", "start_count": "0", "remains": "0"})
    daily.status(order)
    assert daily.money() == (CREDIT, 0)
    assert daily.spent() == {TODAY: 2 * PRICE}
    assert told(daily.add) is Code.SPEND_LIMIT_REACHED


def test_a_replay_counts_nothing_and_is_answered_when_the_day_is_spent(daily: World) -> None:
    first = daily.add(idempotency_key="k", quantity=2000)
    assert daily.add(idempotency_key="k", quantity=2000).order == first.order
    guard(daily, daily_spend=1)
    assert daily.add(idempotency_key="k", quantity=2000).order == first.order
    assert daily.spent() == {TODAY: 2 * PRICE}


def test_a_key_that_met_the_limit_is_free_on_the_next_day(daily: World) -> None:
    daily.add(quantity=2000)
    assert told(lambda: daily.add(idempotency_key="k")) is Code.SPEND_LIMIT_REACHED
    daily.time.sleep(TO_MIDNIGHT)
    assert not daily.add(idempotency_key="k").replayed


def test_a_subscription_counts_what_it_holds_and_its_orders_count_no_more(market: Market) -> None:
    held = 3 * 30 * 350
    key = market.add_tenant(Tenant(id="daily", interval=1, burst=1000, daily_spend=held))
    headers = {"authorization": f"Bearer {key}"}
    fields = {"action": "add", "service": market.service("smosale", "Subscriptions"), "username": "star"}
    subscribe = {**fields, "min": 20, "max": 30, "delay": 0, "posts": 3}
    number = v3(market, subscribe, headers=headers).json["order"]
    market.time.at += 200 * SECOND
    v3(market, {"action": "status", "order": number}, headers=headers)

    orders = {order.id: order for order in market.parts.orders.page("daily")}
    assert len(orders) == 4
    assert [order.id for order in orders.values() if order.budget is not None] == [number]
    item = market.parts.table.get("T#daily", f"SPEND#{TODAY}")
    assert item is not None
    assert item["spent"] == held


# -- one active order on a link ----------------------------------------------------------------------------------------


def test_a_second_active_order_on_a_link_is_refused(sole: World) -> None:
    sole.add()
    with pytest.raises(Refusal) as refused:
        sole.add(quantity=500, runs=2, interval=10)
    assert refused.value.code is Code.DUPLICATE_LINK
    assert refused.value.message == "You have active order with this link. Please wait until order being completed."
    assert len(sole.panel.purchases) == 1
    assert sole.money() == (CREDIT - PRICE, 0)


def test_another_link_service_or_tenant_is_another_matter(sole: World) -> None:
    sole.add()
    sole.add(link=f"{LINK}/p/1")
    sole.add(service=2001, quantity=None, comments="\n".join("abcdefghij"))
    other = sole.add_tenant(Tenant(id="other", refuse_duplicate_link=True))
    sole.add(other)
    assert len(sole.panel.purchases) == 4


def test_who_does_not_ask_for_it_leaves_no_trace_of_a_link(world: World) -> None:
    world.add()
    world.add()
    assert not list(world.parts.table.query("T#acme", "LINK#"))
    guard(world, refuse_duplicate_link=True)
    world.add()  # orders from before are not seen
    assert told(world.add) is Code.DUPLICATE_LINK


@pytest.mark.parametrize(
    ("status", "over"),
    [
        ("Pending", False),
        ("In progress", False),
        ("Completed", True),
        ("Partial", True),
        ("Canceled", True),
        ("Refunded", True),
        ("Fail", True),
    ],
)
def test_a_link_is_free_when_its_order_is_seen_to_have_ended(sole: World, status: str, over: bool) -> None:  # noqa: FBT001
    first = sole.add().order
    sole.panel.behaviours["status"] = says({"status": status, "charge": "0.9", "start_count": "0", "remains": "0"})
    assert told(sole.add) is Code.DUPLICATE_LINK, "nobody has seen it yet"
    sole.status(first)
    assert told(sole.add) is (None if over else Code.DUPLICATE_LINK)
    assert told(sole.add) is Code.DUPLICATE_LINK


@pytest.mark.parametrize("behaviour", [cannot_be_reached, says({"error": "Incorrect link"})])
def test_a_link_is_free_when_nothing_was_bought(sole: World, behaviour: Any) -> None:
    for _ in range(2):
        sole.panel.behaviours["add"] = behaviour
        assert told(sole.add) not in (None, Code.DUPLICATE_LINK)
    sole.panel.behaviours.clear()
    sole.add()
    assert told(sole.add) is Code.DUPLICATE_LINK


def test_an_unknown_outcome_is_active(sole: World) -> None:
    sole.panel.behaviours["add"] = loses_the_request
    sole.add()
    sole.panel.behaviours.clear()
    assert told(sole.add) is Code.DUPLICATE_LINK
    sole.time.sleep(3600)
    assert told(sole.add) is Code.DUPLICATE_LINK


def test_an_order_whose_sender_died_is_active_until_it_proves_not_to_be_placed(sole: World) -> None:
    sole.panel.behaviours["add"] = dies
    with pytest.raises(Killed):
        sole.add()
    sole.panel.behaviours.clear()
    assert told(sole.add) is Code.DUPLICATE_LINK
    sole.time.sleep(300)
    sweep_orders(sole.parts)
    assert told(sole.add) is Code.DUPLICATE_LINK
    [order] = sole.parts.orders.page("acme")
    sole.parts.orders.reject(order, None, until=sole.time.at + SECOND)
    assert told(sole.add) is None


def test_an_order_that_is_not_to_be_seen_yet_is_active(sole: World) -> None:
    """A transaction's items need not appear at once to who reads them one by one."""

    def unseen(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        is_order = name == "get_item" and request["Key"]["sk"]["S"].startswith("ORDER#")
        return {} if is_order else call()

    sole.add()
    assert told(lambda: sole.add(parts=faulty(sole, unseen))) is Code.DUPLICATE_LINK


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("https://Instagram.com/p/AbC", "https://instagram.com/p/AbC", True),
        ("HTTPS://instagram.com/p/AbC", "https://instagram.com/p/AbC/", True),
        ("https://instagram.com", "https://instagram.com/", True),
        ("instagram.com/p/AbC/", "INSTAGRAM.com/p/AbC", True),
        ("https://instagram.com/p/?x=/", "https://instagram.com/p?x=/", True),
        ("https://instagram.com/p/AbC", "https://instagram.com/p/aBC", False),
        ("https://youtu.be/?v=AbC", "https://youtu.be/?v=abC", False),
        ("https://youtu.be/?v=a/", "https://youtu.be/?v=a", False),
        ("https://youtu.be/#a/", "https://youtu.be/#a", False),
        ("https://instagram.com/p", "http://instagram.com/p", False),
        ("https://instagram.com/p", "instagram.com/p", False),
        ("https://instagram.com/p", "https://www.instagram.com/p", False),
        ("@Star", "@star", False),
        ("star", "@star", False),
    ],
)
def test_links_are_compared_as_the_panel_would_see_them(sole: World, first: str, second: str, *, same: bool) -> None:
    sole.add(link=first)
    assert told(lambda: sole.add(link=second)) is (Code.DUPLICATE_LINK if same else None)
    assert [purchase["link"] for purchase in sole.panel.purchases] == [first] + ([] if same else [second])


def test_subscriptions_have_no_link(sole: World) -> None:
    sole.parts.catalog.sync("smosale", [replace(FOLLOWERS, type="Subscriptions")])
    fields: dict[str, Any] = {"link": None, "quantity": None, "username": "star", "min": 50, "max": 100, "delay": 0}
    for _ in range(2):
        sole.add(parts=sole.twin(), **fields)
    assert len(sole.panel.purchases) == 2
    assert not list(sole.parts.table.query("T#acme", "LINK#"))


def test_a_replay_returns_the_first_order_of_an_active_link(sole: World) -> None:
    first = sole.add(idempotency_key="k")
    again = sole.add(idempotency_key="k")
    assert (again.order, again.replayed) == (first.order, True)
    assert told(lambda: sole.add(idempotency_key="other")) is Code.DUPLICATE_LINK
    assert told(lambda: sole.add(idempotency_key="k", quantity=500)) is Code.IDEMPOTENCY_KEY_REUSED


def test_the_dedupe_window_returns_the_first_order_of_an_active_link(sole: World) -> None:
    guard(sole, dedupe=120)
    first = sole.add()
    assert sole.add().order == first.order
    assert told(lambda: sole.add(quantity=500)) is Code.DUPLICATE_LINK
    sole.time.sleep(121)
    assert told(sole.add) is Code.DUPLICATE_LINK
    sole.panel.behaviours["status"] = says({"status": "Completed", "charge": "0.9", "start_count": "0", "remains": "0"})
    sole.status(first.order)
    second = sole.add()
    assert second.order != first.order
    assert sole.add().order == second.order


def test_a_key_that_met_an_active_link_is_free_later(sole: World) -> None:
    first = sole.add()
    assert told(lambda: sole.add(idempotency_key="k")) is Code.DUPLICATE_LINK
    sole.panel.behaviours["status"] = says({"status": "Completed", "charge": "0.9", "start_count": "0", "remains": "0"})
    sole.status(first.order)
    assert not sole.add(idempotency_key="k").replayed


def test_what_is_told_when_everything_stands_against_an_order(world: World) -> None:
    key = world.add_tenant(Tenant(id="poor", daily_spend=PRICE, refuse_duplicate_link=True), credit=PRICE)
    first = world.add(key, idempotency_key="k")
    assert world.add(key, idempotency_key="k").order == first.order
    assert told(lambda: world.add(key)) is Code.DUPLICATE_LINK
    assert told(lambda: world.add(key, link="elsewhere")) is Code.SPEND_LIMIT_REACHED
    world.time.sleep(TO_MIDNIGHT)
    assert told(lambda: world.add(key)) is Code.DUPLICATE_LINK
    assert told(lambda: world.add(key, link="elsewhere")) is Code.INSUFFICIENT_FUNDS


def test_a_link_that_is_free_again_does_not_hide_what_else_stands_against_an_order(world: World) -> None:
    guard(world, daily_spend=PRICE, refuse_duplicate_link=True)
    first = world.add()
    world.panel.behaviours["status"] = says(
        {"status": "Completed", "charge": "0.9", "start_count": "0", "remains": "0"}
    )
    world.status(first.order)
    assert told(world.add) is Code.SPEND_LIMIT_REACHED
    [link] = world.parts.table.query("T#acme", "LINK#")
    assert link["order"] == first.order


# -- races -------------------------------------------------------------------------------------------------------------


def together(barrier: threading.Barrier, times: int) -> StoreFault:
    """Return what lets a container's first acceptances wait until those of all others are there."""
    left = iter(range(times))

    def wait(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if is_acceptance(name, request) and next(left, None) is not None:
            barrier.wait(20)
        return call()

    return wait


def race(world: World, callers: int, add: Callable[[Parts, int], object], *, times: int = 1) -> list[Code | None]:
    """Let so many containers accept at once, and return what each was told."""
    barrier = threading.Barrier(callers)
    twins = [faulty(world, together(barrier, times)) for _ in range(callers)]
    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(lambda pair: told(lambda: add(pair[1], pair[0])), enumerate(twins)))


def test_of_two_at_once_on_one_link_one_is_bought(sole: World) -> None:
    for n in range(5):
        link = f"{LINK}/{n}"
        codes = race(sole, 2, lambda parts, _, link=link: sole.add(parts=parts, link=link))  # type: ignore[misc]
        assert sorted(map(str, codes)) == ["None", Code.DUPLICATE_LINK]
    assert len(sole.panel.purchases) == 5


def test_of_two_at_once_that_take_over_a_link_one_is_bought(sole: World) -> None:
    ended = {"status": "Completed", "charge": "0.9", "start_count": "0", "remains": "0"}
    sole.panel.behaviours["status"] = says(ended)
    sole.status(sole.add().order)
    codes = race(sole, 2, lambda parts, _: sole.add(parts=parts), times=2)
    assert sorted(map(str, codes)) == ["None", Code.DUPLICATE_LINK]
    assert len(sole.panel.purchases) == 2


def test_of_many_at_once_at_the_days_limit_as_many_are_bought_as_it_allows(world: World) -> None:
    guard(world, daily_spend=3 * PRICE + PRICE - 1)
    codes = race(world, 12, lambda parts, n: world.add(parts=parts, link=f"{LINK}/{n}"))
    assert codes.count(None) == len(world.panel.purchases) == 3
    assert codes.count(Code.SPEND_LIMIT_REACHED) == 9
    assert world.spent() == {TODAY: 3 * PRICE}
    assert world.money() == (CREDIT - 3 * PRICE, 0)


# -- faults ------------------------------------------------------------------------------------------------------------


def guarded(world: World) -> World:
    guard(world, daily_spend=PRICE, refuse_duplicate_link=True)
    return world


@pytest.mark.parametrize("remembers", [True, False])
def test_an_acceptance_whose_reply_was_lost_counts_once(world: World, *, remembers: bool) -> None:
    """AWS remembers a transaction by its token for ten minutes; a repetition must do no harm after that either."""
    lost = acceptances_lost(2)

    def forgotten(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if not remembers:
            request.pop("ClientRequestToken", None)
        return lost(name, request, call)

    guarded(world).add(parts=faulty(world, forgotten))
    assert len(world.panel.purchases) == 1
    assert world.spent() == {TODAY: PRICE}
    assert world.money() == (CREDIT - PRICE, 0)


def test_an_acceptance_that_nobody_heard_of_gives_back_its_day_and_its_link(world: World) -> None:
    parts = faulty(guarded(world), acceptances_lost(10_000))
    with pytest.raises(StoreBusy):
        world.add(parts=parts)
    assert not world.panel.requests
    assert world.spent() == {TODAY: 0}
    assert world.money() == (CREDIT, 0)
    world.add()
    assert told(world.add) is Code.DUPLICATE_LINK


def half_answers() -> StoreFault:
    """Return a store whose first refusal of an acceptance names only what failed last: the rest was busy."""
    left = iter(range(1))

    def half(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ClientError as error:
            if is_acceptance(name, request) and next(left, None) is not None:
                reasons = error.response["CancellationReasons"]
                failed = [at for at, reason in enumerate(reasons) if reason.get("Code") == "ConditionalCheckFailed"]
                for at in failed[:-1]:
                    reasons[at] = {"Code": "TransactionConflict"}
            raise

    return half


def test_what_was_busy_is_asked_again_before_a_caller_is_told_what_stood_against_it(world: World) -> None:
    key = world.add_tenant(Tenant(id="poor", daily_spend=PRICE, refuse_duplicate_link=True), credit=PRICE)
    first = world.add(key, idempotency_key="k")
    again = world.add(key, parts=faulty(world, half_answers()), idempotency_key="k")
    assert (again.order, again.replayed) == (first.order, True)
    assert told(lambda: world.add(key, parts=faulty(world, half_answers()))) is Code.DUPLICATE_LINK


# -- how it is said ----------------------------------------------------------------------------------------------------


def test_v3_says_which_guard_it_was(world: World) -> None:
    guarded(world)
    assert v3(world, ADD).status == 200
    duplicate = v3(world, ADD)
    assert (duplicate.status, duplicate.json["code"]) == (409, "duplicate_link")
    assert duplicate.json["error"].startswith("You have active order with this link.")
    spent = v3(world, {**ADD, "link": "elsewhere"})
    assert (spent.status, spent.json["code"]) == (402, "spend_limit_reached")
    assert "Retry-After" not in duplicate.headers.keys() | spent.headers.keys()


def test_v2_says_it_in_the_sentences_that_panels_have(world: World) -> None:
    guarded(world)
    assert "order" in v2(world, ADD).json
    duplicate = v2(world, ADD)
    assert duplicate.status == 200
    sentence = "You have active order with this link. Please wait until order being completed."
    assert duplicate.json == {"error": sentence}
    assert v2(world, {**ADD, "link": "elsewhere"}).json == {"error": "Not enough funds on balance"}


def test_a_sender_that_comes_late_finds_its_link_taken_over_by_nobody(sole: World) -> None:
    """While an order is being sent nobody else gets its link, and afterwards it is its own."""
    codes: list[Code | None] = []

    def another_comes(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        codes.append(told(lambda: sole.add(parts=sole.twin())))
        return buys(panel, fields)

    sole.panel.behaviours["add"] = another_comes
    sole.add()
    assert codes == [Code.DUPLICATE_LINK]
    assert len(sole.panel.purchases) == 1
