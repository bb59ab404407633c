"""The judgements: what fits, what a balance proves; held to the truth of a pretend account."""

from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.actions import Status
from chalicelib.evidence import (
    Purchase,
    Range,
    charged,
    confirms,
    fits,
    is_before,
    may_have_made,
    purchases_between,
    range_around,
    was_not_bought,
)
from chalicelib.model import OrderStatus, Reading
from chalicelib.order_types import quoted
from chalicelib.ports import Bound, Charged, Mark
from tests.aws.test_orders import draft

CENT = Decimal("0.01")
LIVE = (OrderStatus.PENDING, OrderStatus.IN_PROGRESS, OrderStatus.PROCESSING)
NOTHING = frozenset[tuple[str, int]]()


def status(state: OrderStatus | None = OrderStatus.IN_PROGRESS, charge: str | None = "0.9", **more: Any) -> Status:
    amount = None if charge is None else Decimal(charge)
    given = {"start_count": None, "remains": None, "currency": None, **more}
    return Status(status=state, raw_status=str(state), charge=amount, **given)


def mark(**changes: Any) -> Mark:
    made = Mark(at=1, balance=Decimal(100), top=10, top_after=10, charges={}, unsettled=NOTHING)
    return replace(made, **changes)


def bound(number: int, order: int | None = None) -> Bound:
    return Bound(number, "acme", order or number, 0, 0)


# -- what fits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        status(),
        status(charge="0.90"),
        status(charge="0.9000"),
        status(OrderStatus.PENDING, remains=1000),
        status(OrderStatus.PENDING, remains=None),
        status(OrderStatus.COMPLETED, remains=0),
        status(OrderStatus.CANCELED, charge="0"),
        status(OrderStatus.CANCELED, remains=1000),
        status(OrderStatus.PARTIAL, charge="0.63", remains=300),
        status(OrderStatus.PARTIAL, charge="0.9", remains=300),
        status(OrderStatus.REFUNDED, charge="0", remains=0),
    ],
)
def test_what_a_panel_may_show_of_an_order_fits_it(said: Status) -> None:
    assert fits(draft(), said)


@pytest.mark.parametrize(
    "said",
    [
        status(charge="0.8"),
        status(charge=None),
        status(remains=1001),
        status(OrderStatus.PENDING, remains=999),
        status(OrderStatus.ACTIVE),
        status(posts=3),
        status(None),
        status(OrderStatus.UNKNOWN),
        status(charge="0"),
        status(OrderStatus.COMPLETED, charge="0.63", remains=300),
        status(OrderStatus.PARTIAL, charge="0.5", remains=300),
    ],
)
def test_what_it_cannot_show_of_it_does_not(said: Status) -> None:
    assert not fits(draft(), said)


@given(
    quantity=st.integers(1, 10**6),
    cost=st.decimals("0.01", "5000", places=4),
    digits=st.integers(2, 6),
    rounding=st.sampled_from([ROUND_HALF_UP, ROUND_DOWN]),
    data=st.data(),
)
def test_an_order_fits_itself_however_its_panel_rounds(
    quantity: int, cost: Decimal, digits: int, rounding: str, data: st.DataObject
) -> None:
    order = draft(quantity=quantity, cost=cost)
    remains = data.draw(st.integers(0, quantity))
    price = quoted(order)
    assert price is not None

    def shown(amount: Decimal) -> str:
        return str(amount.quantize(Decimal(1).scaleb(-digits), rounding=rounding))

    assert fits(order, status(data.draw(st.sampled_from(LIVE[1:])), shown(price), remains=remains))
    left = price * (quantity - remains) / quantity
    assert fits(order, status(OrderStatus.PARTIAL, shown(left), remains=remains))


@given(price=st.decimals("0.02", "1000", places=2), other=st.decimals("0.02", "1000", places=2))
def test_orders_of_other_prices_do_not_fit(price: Decimal, other: Decimal) -> None:
    order = draft(cost=price)
    assert fits(order, status(charge=str(other))) is (price == other)


@pytest.mark.parametrize(
    ("said", "is_so"),
    [(None, False), (OrderStatus.UNKNOWN, False), (OrderStatus.QUEUED, True), (OrderStatus.PENDING, True)],
)
def test_what_confirms_an_order(said: OrderStatus | None, *, is_so: bool) -> None:
    assert confirms(status(said)) is is_so


@pytest.mark.parametrize(
    ("charge", "state", "may"),
    [
        ("0.3", OrderStatus.IN_PROGRESS, True),
        ("0.9", OrderStatus.IN_PROGRESS, False),
        ("0.1", OrderStatus.IN_PROGRESS, False),
        ("0.1", OrderStatus.PARTIAL, True),
        ("0", OrderStatus.CANCELED, True),
        (None, OrderStatus.IN_PROGRESS, True),
    ],
)
def test_a_drip_feed_may_have_made_what_one_run_costs(charge: str | None, state: OrderStatus, *, may: bool) -> None:
    parent = draft(runs=3, interval=10, quantity=333, cost=Decimal("0.9009"))
    assert may_have_made(parent, status(state, charge)) is may


@pytest.mark.parametrize(("charge", "may"), [("0.09", True), ("0.14", True), ("0.18", True), ("0.3", False)])
def test_a_subscription_may_have_made_what_a_post_may_cost(charge: str, *, may: bool) -> None:
    parent = draft(type="Subscriptions", extra={"min": "100", "max": "200"})
    assert may_have_made(parent, status(charge=charge)) is may


# -- where it must be --------------------------------------------------------------------------------------------------


def test_a_mark_that_does_not_list_an_unsettled_order_is_older() -> None:
    order = draft()
    assert is_before(mark(), order)
    assert not is_before(mark(unsettled=frozenset({order.name})), order)
    assert is_before(mark(unsettled=frozenset({("other", order.id)})), order), "ids are a tenant's own"


def test_an_order_is_above_what_was_ours_before_and_below_what_came_after_the_quiet_period() -> None:
    trail = [bound(40), bound(31), bound(30), bound(20), bound(10)]
    assert range_around(None, None, trail) == Range(0)
    assert range_around(mark(top=10), None, trail) == Range(10)
    after = mark(top=20, top_after=30, unsettled=frozenset({("acme", 31)}))
    assert range_around(mark(top=10), after, trail) == Range(10, 40), "31 may have been bought before the mark"
    assert 39 in Range(10, 40)
    assert 40 not in Range(10, 40)
    assert 10 not in Range(10, 40)


# -- the balance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "refunded", "kept"),
    [
        (None, 0, "0.90"),
        ("0.63", 0, "0.63"),
        ("0.90", 450_000, "0.45"),
        ("0.45", 450_000, "0.45"),
        ("0", 900_000, "0"),
        ("0.91", 0, "0.91"),
    ],
)
def test_what_a_provider_keeps_of_an_order(reading: str | None, refunded: int, kept: str) -> None:
    said = reading and Reading(
        status=OrderStatus.PARTIAL, start_count=None, remains=None, at=0, charge=Decimal(reading)
    )
    assert charged(draft(reading=said or None, refunded=refunded)) == Decimal(kept)


def test_without_other_movements_a_balance_tells_bought_from_not_bought() -> None:
    price = Decimal("0.90")
    assert was_not_bought(price, Decimal(0), [])
    assert not was_not_bought(price, price, [])
    assert not was_not_bought(price, Decimal(-5), []), "a top-up"
    assert not was_not_bought(price, Decimal("0.45"), []), "something else"


def test_a_price_below_what_a_balance_shows_is_never_proved() -> None:
    assert not was_not_bought(Decimal("0.005"), Decimal(0), [])
    assert not was_not_bought(Decimal(0), Decimal(0), [])


def test_too_many_doubts_prove_nothing() -> None:
    doubts = [Purchase(Decimal(n + 100), sure=False) for n in range(9)]
    assert not was_not_bought(Decimal(1), Decimal(0), doubts)
    assert was_not_bought(Decimal(1), Decimal(0), doubts[:8])


amounts = st.decimals("0.02", "50", places=3)


@given(
    price=amounts,
    sure=st.lists(st.one_of(amounts, amounts.map(lambda one: -one)), max_size=6),
    doubtful=st.lists(st.tuples(amounts, st.booleans()), max_size=8),
)
def test_a_purchase_that_happened_is_never_proved_not_to_have(
    price: Decimal, sure: list[Decimal], doubtful: list[tuple[Decimal, bool]]
) -> None:
    """As long as all that moved the balance is among the purchases, whichever of the doubtful ones did."""
    fall = price + sum(sure, Decimal(0)) + sum((charge for charge, did in doubtful if did), Decimal(0))
    purchases = [Purchase(one, sure=True) for one in sure] + [Purchase(one, sure=False) for one, _ in doubtful]
    assert not was_not_bought(price, fall, purchases)


@given(price=amounts, sure=st.lists(amounts, max_size=6))
def test_what_was_not_bought_is_proved_when_all_else_is_sure(price: Decimal, sure: list[Decimal]) -> None:
    assert was_not_bought(price, sum(sure, Decimal(0)), [Purchase(one, sure=True) for one in sure])


def test_purchases_are_counted_by_what_the_two_marks_say_of_them() -> None:
    one = Decimal(1)
    before = mark(top=10, top_after=11, unsettled=frozenset({("acme", 12)}), charges={9: Charged("acme", 9, one)})
    after = mark(top=14, top_after=15, unsettled=frozenset({("acme", 99)}))
    trail = [bound(99), bound(16), bound(15), bound(14), bound(13), bound(12), bound(11), bound(10), bound(9)]
    charges = dict.fromkeys((11, 12, 13, 14, 15, 99), one) | {9: Decimal("0.25")}
    found = purchases_between(before, after, trail, charges)
    assert found[0] == Purchase(Decimal("-0.75"), sure=True), "a refund"
    assert [purchase.sure for purchase in found[1:]] == [False, False, True, True, False, False]


@given(
    events=st.lists(st.sampled_from(["buy", "lose", "find", "refund"]), max_size=14),
    first=st.integers(0, 14),
    second=st.integers(0, 14),
    is_bought=st.booleans(),
    data=st.data(),
)
def test_no_history_of_an_account_proves_a_bought_order_away(
    events: list[str], first: int, second: int, data: st.DataObject, *, is_bought: bool
) -> None:
    """An account lives: orders are bought, lost, found, refunded; two marks stand somewhere around a lost one."""
    first, second = sorted((first, second))
    account = _Account(data)
    account.buy()
    for turn, event in enumerate([*events, *["none"] * 16]):
        if turn == first:
            account.mark("before")
            account.lose_target(is_bought=is_bought)
        if turn >= second and turn > first and "after" not in account.marks:
            account.mark("after")
        account.live(event)
    verdict = account.verdict()
    assert not (is_bought and verdict)
    if not is_bought and not account.lost:
        assert verdict


class _Account:
    """What a panel knows, and what we know of it."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.balance, self.number = Decimal(1000), 0
        self.charges: dict[int, Decimal] = {}
        self.ours: dict[int, int] = {}
        self.lost: dict[int, tuple[int | None, Decimal]] = {}
        self.marks: dict[str, Mark] = {}
        self.next_id = 1_000_000
        self.target = draft(id=7, cost=Decimal("1.23"))

    def _bought(self, charge: Decimal) -> int:
        self.number += 1
        self.charges[self.number] = charge
        self.balance -= charge
        return self.number

    def buy(self) -> None:
        self.next_id += 1
        self.ours[self._bought(self.data.draw(amounts))] = self.next_id

    def lose_target(self, *, is_bought: bool) -> None:
        if is_bought:
            self._bought(Decimal("1.23"))

    def live(self, event: str) -> None:
        if event == "buy":
            self.buy()
        elif event == "lose":
            self.next_id += 1
            charge = self.data.draw(amounts)
            self.lost[self.next_id] = (self._bought(charge) if self.data.draw(st.booleans()) else None, charge)
        elif event == "find" and self.lost:
            order, (number, _) = self.lost.popitem()
            if number is not None:
                self.ours[number] = order
        elif event == "refund":
            number = self.data.draw(st.sampled_from(sorted(self.ours)))
            self.balance += self.charges[number]
            self.charges[number] = Decimal(0)

    def mark(self, when: str) -> None:
        target = {("acme", 7)} if when == "after" else set()
        self.marks[when] = mark(
            balance=self.balance,
            top=max(self.ours),
            top_after=max(self.ours),
            charges={number: Charged("acme", one, self.charges[number]) for number, one in self.ours.items()},
            unsettled=frozenset({("acme", one) for one in self.lost} | target),
        )

    def verdict(self) -> bool:
        before, after = self.marks["before"], self.marks["after"]
        trail = [bound(number, order) for number, order in sorted(self.ours.items(), reverse=True)]
        known = {number: self.charges[number] for number in self.ours if number not in after.charges}
        purchases = purchases_between(before, after, trail, known)
        others = [one for order, (_, one) in self.lost.items() if ("acme", order) in after.unsettled]
        purchases += [Purchase(one, sure=False) for one in others]
        price = quoted(self.target)
        assert price is not None
        return was_not_bought(price, before.balance - after.balance, purchases)
