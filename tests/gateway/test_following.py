"""Open orders are followed though nobody asks: refunds, reopened orders, subscriptions, and marks of the account."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib import money
from chalicelib.aws.accounts import KEPT
from chalicelib.aws.rotations import Rotation, Rotations, Step
from chalicelib.clock import DAY, HOUR, MINUTE, SECOND
from chalicelib.following import MOST_OPEN, MOST_UNSETTLED
from chalicelib.jobs import settle_orders
from chalicelib.model import FINAL, RECHECKS, REOPENS, Account, Order, OrderState, OrderStatus, Source, may_follow
from chalicelib.ports import Charged, Mark, Orders
from chalicelib.wiring import Parts
from sandbox.faults import ActiveFault
from sandbox.orders import Stage
from tests.market import Market
from tests.settling import Shop
from tests.stage import MovableClock
from tests.world import LINK, World, says

PANELS = ("smosale", "smmrich", "smmleaf", "mysticsmm", "smmafrica")
# Each minute that passes looks at every panel that there is.
pytestmark = pytest.mark.panels("smosale")
CREDIT = 1000 * SECOND
UNTIL = 2**62


def statuses(order: Order) -> list[OrderStatus]:
    return [change.now for change in order.journal if isinstance(change.now, OrderStatus)]


def marks(market: Market, slug: str) -> list[Mark]:
    return list(market.parts.following.accounts.marks(Account(slug)))


# -- refunds that nobody asked for -------------------------------------------------------------------------------------


@pytest.mark.panels(*PANELS)
@pytest.mark.parametrize("slug", PANELS)
@pytest.mark.parametrize("link", ["partial", "cancel", "fail"])
def test_an_order_that_nobody_polls_is_paid_back(market: Market, slug: str, link: str) -> None:
    shop = Shop.of(market)
    order = shop.buy(slug, link=f"{LINK}/{link}")
    shop.wait(5)
    [sold] = market.bought(slug)
    market.panel(slug).funds()
    assert sold.refunded
    assert market.money() == (CREDIT - money.micros(sold.charge - sold.refunded), 0)
    found = shop.look(order)
    assert found.journal[-1].source is Source.PANEL
    assert [change.at for change in found.journal] == sorted(change.at for change in found.journal)


def test_every_change_has_its_source_and_its_time(market: Market) -> None:
    shop = Shop.of(market)
    start = market.time.at
    order = shop.buy("smosale")
    shop.wait(3)
    journal = shop.look(order).journal
    assert [(change.source, change.now) for change in journal[:2]] == [
        (Source.REQUEST, OrderState.SENDING),
        (Source.REQUEST, OrderState.PLACED),
    ]
    assert {change.source for change in journal[2:]} == {Source.PANEL}
    assert journal[-1].now is OrderStatus.COMPLETED
    assert all(start <= change.at <= market.time.at for change in journal)


def test_a_subscription_that_nobody_polls_is_charged_and_ends(market: Market) -> None:
    shop = Shop.of(market)
    fields: dict[str, Any] = {"username": "someone", "min": 100, "max": 200, "posts": 3, "delay": 0}
    service = market.service("smosale", "Subscriptions")
    order = shop.buy("smosale", service=service, link=None, quantity=None, **fields)
    shop.wait(10)
    found = shop.look(order)
    assert len(found.children) == 3
    assert found.spent is not None
    paid = sum((one.charge - one.refunded for one in market.bought("smosale") if not one.subscription), Decimal(0))
    assert market.money() == (CREDIT - money.micros(paid), 0)


# -- orders that had ended ---------------------------------------------------------------------------------------------


def completed(shop: Shop, slug: str = "smosale", link: str = "x") -> Order:
    order = shop.buy(slug, link=f"{LINK}/{link}")
    shop.wait(3)
    found = shop.look(order)
    assert found.reading is not None
    assert found.reading.status in REOPENS
    return found


def later(shop: Shop, order: Order, stage: Stage, remains: int | None = None) -> Order:
    """Let a panel change its mind, and the schedule see it a day later."""
    panel = shop.market.panel(order.provider)
    sold = panel.orders[order.provider_order or 0]
    sold.remains = remains
    panel.move(sold, stage)
    panel.give_back(sold)
    shop.market.time.at += DAY
    shop.wait(2)
    return shop.look(order)


@pytest.mark.parametrize(
    ("stage", "remains", "back"),
    [(Stage.PARTIAL, 400, 0.4), (Stage.CANCELED, 250, 0.25), (Stage.CANCELED, 0, 1), (Stage.REFUNDED, 1000, 1)],
)
@pytest.mark.panels("smosale", "mysticsmm", "smmafrica")
@pytest.mark.parametrize("slug", ["smosale", "mysticsmm", "smmafrica"])
def test_a_completed_order_that_is_paid_back_later_is(
    market: Market, slug: str, stage: Stage, remains: int, back: float
) -> None:
    shop = Shop.of(market)
    order = completed(shop, slug)
    found = later(shop, order, stage, remains)
    assert found.refunded == round(order.charge * back)
    assert market.money() == (CREDIT - order.charge + found.refunded, 0)


def test_a_partial_order_that_is_refunded_later_gets_back_the_rest_and_no_more(market: Market) -> None:
    shop = Shop.of(market)
    order = completed(shop, link="partial")
    assert 0 < order.refunded < order.charge
    assert later(shop, order, Stage.REFUNDED, 0).refunded == order.charge
    assert market.money() == (CREDIT, 0)
    market.time.at += 30 * DAY
    shop.wait(2)
    assert market.money() == (CREDIT, 0)


def test_a_refill_opens_a_completed_order_again_until_it_is_done(market: Market) -> None:
    shop = Shop.of(market)
    order = completed(shop)
    assert statuses(later(shop, order, Stage.IN_PROGRESS, 300))[-2:] == [OrderStatus.COMPLETED, OrderStatus.IN_PROGRESS]
    panel = market.panel("smosale")
    panel.move(panel.orders[order.provider_order or 0], Stage.CANCELED)
    market.time.at += 2 * HOUR
    shop.wait()
    found = shop.look(order)
    assert statuses(found)[-1] is OrderStatus.CANCELED
    assert found.refunded == round(order.charge * 0.3)


def test_what_was_paid_back_is_not_delivered_after_all(world: World) -> None:
    order = world.add().order
    world.panel.behaviours["status"] = says({"charge": "0", "status": "Canceled", "remains": "0"})
    world.status(order)
    world.panel.behaviours["status"] = says({"charge": "0.9", "status": "Completed", "remains": "0"})
    world.time.at += DAY + MINUTE
    settle_orders(world.parts)
    record = world.parts.orders.get("acme", order)
    assert record is not None
    assert record.reading is not None
    assert record.reading.status is OrderStatus.CANCELED
    assert world.money() == (100 * SECOND, 0)


@pytest.mark.parametrize("before", sorted(FINAL))
def test_what_may_follow_an_end(before: OrderStatus) -> None:
    followers = {after for after in OrderStatus if after is not before and may_follow(before, after)}
    assert followers == REOPENS.get(before, frozenset())
    assert may_follow(before, before)


def test_ended_orders_are_looked_at_a_few_times_and_then_no_more(market: Market) -> None:
    shop = Shop.of(market)
    completed(shop)
    asked = len(market.asked("smosale", "status"))
    for _ in range(40):
        market.time.at += DAY
        settle_orders(market.parts)
    assert len(market.asked("smosale", "status")) - asked == len(RECHECKS)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_panel_that_goes_to_and_fro_does_not_fill_the_record(world: World) -> None:
    order = world.add().order
    for turn in range(230):
        world.panel.behaviours["status"] = says({"status": ("Pending", "In progress")[turn % 2], "remains": "9"})
        world.time.at += 16 * SECOND
        world.status(order)
    record = world.parts.orders.get("acme", order)
    assert record is not None
    assert len(record.journal) <= 200
    world.panel.behaviours["status"] = says({"charge": "0", "status": "Canceled", "remains": "0"})
    world.time.at += 16 * SECOND
    world.status(order)
    record = world.parts.orders.get("acme", order)
    assert record is not None
    assert record.journal[-1].now is OrderStatus.CANCELED
    assert world.money() == (100 * SECOND, 0)


@pytest.mark.panels("mysticsmm")
def test_where_each_order_takes_a_call_all_get_their_turn(market: Market) -> None:
    """An unsettled order makes the account due for a mark each minute; those that wait longest come first even so."""
    shop = Shop.of(market, "mysticsmm")
    bought = [shop.buy("mysticsmm", link=f"{LINK}/slowstart/{n}") for n in range(45)]
    shop.buy("mysticsmm", lost="before")
    for _ in range(4):
        before = len(market.asked("mysticsmm", "status"))
        shop.wait()
        assert len(market.asked("mysticsmm", "status")) - before <= 45
    assert all(shop.look(one).reading is not None for one in bought)


def test_a_subscriptions_order_that_had_ended_when_it_was_seen_is_not_asked_for_each_minute(market: Market) -> None:
    shop = Shop.of(market)
    fields: dict[str, Any] = {"username": "someone", "min": 100, "max": 200, "posts": 2, "delay": 0}
    service = market.service("smosale", "Subscriptions")
    parent = shop.buy("smosale", service=service, link=None, quantity=None, **fields)
    market.time.at += HOUR
    market.panel("smosale").funds()
    market.time.at += HOUR
    shop.wait(2)
    assert len(shop.look(parent).children) == 2
    assert list(market.parts.orders.open(Account("smosale"), before=UNTIL)) == []
    assert len(list(market.parts.orders.ended(Account("smosale"), before=UNTIL))) == 3


def test_a_panel_that_does_not_answer_is_asked_again_and_not_at_once(market: Market) -> None:
    shop = Shop.of(market)
    order = shop.buy("smosale", link=f"{LINK}/cancel")
    market.panel("smosale").faults.append(ActiveFault("html", action="status"))
    shop.wait(3)
    market.panel("smosale").faults.clear()
    shop.wait(2)
    assert shop.look(order).refunded == order.charge


# -- marks -------------------------------------------------------------------------------------------------------------


@pytest.mark.panels("smosale", "smmrich")
def test_an_account_is_marked_where_the_key_is_exclusive_and_when_something_moved(market: Market) -> None:
    shop = Shop.of(market, "smosale")
    order = shop.buy("smosale", link=f"{LINK}/slowstart")
    shop.buy("smmrich")
    shop.wait(3)
    [mark] = marks(market, "smosale")
    assert marks(market, "smmrich") == []
    assert mark.balance == market.panel("smosale").balance
    assert (mark.top, mark.top_after, mark.unsettled) == (order.provider_order, order.provider_order, frozenset())
    [charged] = mark.charges.values()
    assert (charged.tenant, charged.order, charged.charge) == ("acme", order.id, Decimal("0.9"))
    lost = shop.buy("smosale", 1234, lost="before")
    shop.wait(2)
    newest, *_ = marks(market, "smosale")
    assert newest.unsettled == {("acme", lost.id)}
    assert len(marks(market, "smosale")) == 3


def test_an_account_of_which_an_order_cannot_be_read_is_not_marked(market: Market) -> None:
    shop = Shop.of(market, "smosale")
    shop.buy("smosale", link=f"{LINK}/slowstart")
    market.panel("smosale").faults.append(ActiveFault("html", action="status"))
    shop.wait(2)
    assert marks(market, "smosale") == []


def test_a_balance_that_cannot_be_read_is_no_mark_and_no_harm(market: Market) -> None:
    shop = Shop.of(market, "smosale")
    shop.buy("smosale")
    market.panel("smosale").faults.append(ActiveFault("html", action="balance"))
    shop.wait(2)
    assert marks(market, "smosale") == []
    assert settle_orders(market.parts)["failed"] == 0


CHANGING = [(Step.PROVED,), (Step.PROVED, Step.PROMOTED, Step.ROLLING_BACK)]
CHANGED = [
    (Step.PROVED, Step.FAILED),
    (Step.PROVED, Step.PROMOTED),
    (Step.PROVED, Step.PROMOTED, Step.DONE),
    (Step.PROVED, Step.PROMOTED, Step.ROLLING_BACK, Step.ROLLED_BACK),
]


def rotate(parts: Parts, steps: Sequence[Step], *, other_account: bool) -> None:
    rotations = Rotations(parts.table)
    rotation = rotations.begin(Rotation(account=Account("smosale"), version="7" * 32, other_account=other_account))
    for step in steps:
        rotation = rotations.advance(rotation, step)


@pytest.mark.parametrize("steps", [*CHANGING, *CHANGED], ids=lambda steps: steps[-1])
def test_marks_of_another_account_are_not_its_own(market: Market, steps: Sequence[Step]) -> None:
    shop = Shop.of(market, "smosale")
    shop.buy("smosale")
    shop.wait()
    accounts, [before] = market.parts.following.accounts, marks(market, "smosale")
    rotate(market.parts, steps, other_account=True)
    assert marks(market, "smosale") == []
    assert accounts.get(Account("smosale"), before.at) is None
    shop.wait()  # a container may have the old key still
    assert marks(market, "smosale") == []
    shop.wait(11)
    found = marks(market, "smosale")
    assert len(found) == (0 if steps in CHANGING else 1)
    assert all(accounts.get(Account("smosale"), mark.at) == mark for mark in found)


@pytest.mark.parametrize("off", [-5 * MINUTE, 5 * MINUTE])
def test_the_operators_clock_may_be_as_wrong_as_aws_allows(market: Market, off: int) -> None:
    """A container that has the old key still marks the old account."""
    shop, laptop = Shop.of(market, "smosale"), MovableClock(market.time.at + off)
    shop.buy("smosale")
    rotate(market.twin(clock=laptop.clock), CHANGED[1], other_account=True)
    shop.wait()
    assert marks(market, "smosale") == []
    shop.wait(16)
    assert len(marks(market, "smosale")) == 1


def test_another_key_of_the_account_keeps_its_marks(market: Market) -> None:
    shop = Shop.of(market, "smosale")
    shop.buy("smosale")
    shop.wait()
    found = marks(market, "smosale")
    rotate(market.parts, CHANGED[2], other_account=False)
    assert marks(market, "smosale") == found != []


@dataclass(frozen=True)
class Flood:
    """The orders of an account, so many of which are not settled."""

    orders: Orders
    lost: Order
    count: int

    def unsettled(self, _account: Account) -> Iterator[Order]:
        return (replace(self.lost, id=number) for number in range(self.count))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.orders, name)


@pytest.mark.parametrize(("count", "marked"), [(MOST_UNSETTLED, True), (MOST_UNSETTLED + 1, False)])
def test_an_account_is_not_marked_in_more_than_an_item_holds(market: Market, count: int, *, marked: bool) -> None:
    shop = Shop.of(market, "smosale")
    lost = shop.buy("smosale", lost="before")
    orders: Any = Flood(market.parts.orders, lost, count)
    provider = market.registry.provider("smosale")
    replace(market.parts.following, orders=orders).run(provider, end=market.time.at + 50 * SECOND)
    assert [len(mark.unsettled) for mark in marks(market, "smosale")] == [count] * marked


def test_the_longest_mark_can_be_kept(market: Market) -> None:
    longest = "t" * 32
    charges = {2**31 + n: Charged(longest, 10**9 + n, Decimal("12345.678901")) for n in range(MOST_OPEN)}
    unsettled = frozenset((longest, 10**9 + n) for n in range(MOST_UNSETTLED))
    mark = Mark(at=1, balance=Decimal(1), top=0, top_after=0, charges=charges, unsettled=unsettled)
    market.parts.following.accounts.add(Account("smosale"), mark, until=UNTIL)
    assert marks(market, "smosale") == [mark]


def test_old_marks_go_a_few_at_a_time(market: Market) -> None:
    accounts = market.parts.following.accounts
    mark = Mark(at=0, balance=Decimal(1), top=0, top_after=0, charges={}, unsettled=frozenset())
    for at in range(50):
        accounts.add(Account("smosale"), replace(mark, at=at), until=UNTIL)
    accounts.add(Account("smosale"), replace(mark, at=KEPT + 100), until=UNTIL)
    assert 20 <= len(marks(market, "smosale")) <= 40
    accounts.add(Account("smosale"), replace(mark, at=KEPT + 101), until=UNTIL)
    accounts.add(Account("smosale"), replace(mark, at=KEPT + 102), until=UNTIL)
    assert [one.at for one in marks(market, "smosale")] == [KEPT + 102, KEPT + 101, KEPT + 100]
