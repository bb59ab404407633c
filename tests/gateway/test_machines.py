"""Random lives of orders and of a wallet, by Hypothesis, over the real code and the emulated table.

After each step the promises of reliability.md 3 must hold: S, never two purchases of one order; R, nothing given back
that was bought; T, nobody was told of an order that the panel does not have. At the end everything comes to rest, and
the panel's books are compared with ours.
"""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from chalicelib.actions import Placed
from chalicelib.aws.orders import DynamoOrders
from chalicelib.clock import MINUTE, SECOND
from chalicelib.errors import AlreadyBound, PanelgateError, StoreBusy
from chalicelib.jobs import settle_orders, sweep_orders
from chalicelib.model import Account, Order, OrderState, OrderStatus, Reading, Source
from sandbox.faults import ActiveFault
from sandbox.orders import Stage
from tests.aws.test_orders import draft
from tests.faults import (
    SEND,
    Fault,
    Hit,
    Killed,
    Wire,
    broken,
    broken_after,
    conflict,
    killed_after,
    killed_before,
    late,
    reply_lost,
    request_lost,
    throttled,
    vanished,
)
from tests.judging import name_of
from tests.scenarios import FOR_EVER
from tests.stall import Stall
from tests.world import World

IS_WHOLE = os.environ.get("PANELGATE_FAULTS") == "all"
BOUNDED = settings(
    max_examples=150 if IS_WHOLE else 6,
    stateful_step_count=25 if IS_WHOLE else 12,
    derandomize=not IS_WHOLE,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
PANELS: list[Fault] = [broken, broken_after, late, reply_lost, request_lost, throttled, vanished]
CRASHES: list[Fault] = [killed_before, killed_after]
TROUBLES: list[Fault] = [*CRASHES, broken_after, conflict, reply_lost, request_lost, throttled]


class Orders(RuleBasedStateMachine):
    """Orders of one customer at one panel, and all that befalls them."""

    def __init__(self, stall: Stall) -> None:
        super().__init__()
        self.stall = stall
        self.names: list[str] = []
        self.stall.add("first")
        self.stall.pass_time(MINUTE)
        self.stall.jobs()

    def container(self, fault: Fault | None = None, at: int = 0, name: str | None = None) -> Any:
        def befall(hit: Hit) -> Any:
            return fault(hit) if fault is not None and name in (None, hit.name) else hit.call()

        wire = Wire(self.stall, befall, at, 1 if name is None else FOR_EVER)
        self.stall.late = wire.late = self.stall.late
        return self.stall.container(wire)

    def run(self, act: Callable[[Any], object], parts: Any) -> None:
        with contextlib.suppress(Killed, PanelgateError):
            act(parts)

    @rule(end=st.sampled_from(["", "-partial", "-cancel", "-fail"]), size=st.sampled_from([1000, 1000, 1300]))
    def buys(self, end: str, size: int) -> None:
        self.names.append(f"{len(self.names)}{end}")
        self.stall.add(self.names[-1], quantity=size)

    @rule(fault=st.sampled_from(PANELS), size=st.sampled_from([1000, 1000, 1300]))
    def buys_at_an_odd_panel(self, fault: Fault, size: int) -> None:
        self.names.append(f"{len(self.names)}-odd")
        self.stall.add(self.names[-1], self.container(fault, name=SEND), quantity=size)

    @rule(fault=st.sampled_from(TROUBLES), at=st.integers(0, 6))
    def buys_in_an_unlucky_container(self, fault: Fault, at: int) -> None:
        self.names.append(f"{len(self.names)}-crash")
        self.stall.add(self.names[-1], self.container(fault, at))

    @rule()
    def is_refused(self) -> None:
        self.stall.panel.faults.append(ActiveFault(fault="no_funds", action="add", count=1))
        self.names.append(f"{len(self.names)}-refused")
        self.stall.add(self.names[-1])

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def asks_again(self, data: Any) -> None:
        name = data.draw(st.sampled_from(self.names))
        first = next((one for one in self.stall.orders() if name_of(one) == name), None)
        size = 1000 if first is None else first.quantity
        told = self.stall.told[name]
        again = self.stall.add(name, self.stall.container(), quantity=size)
        if told.startswith("order"):
            assert again == told
        if again == "request_in_progress":
            self.stall.told[name] = told

    @rule(seconds=st.sampled_from([1, 20, 60, 150, 600]))
    def time_passes(self, seconds: int) -> None:
        self.stall.pass_time(seconds * SECOND)

    @rule(fault=st.sampled_from([None, *TROUBLES]), at=st.integers(0, 5))
    def somebody_looks(self, fault: Fault | None, at: int) -> None:
        self.run(self.stall.status, self.container(fault, at))

    @rule(fault=st.sampled_from([None, *TROUBLES]), at=st.integers(0, 5))
    def the_sweeper_runs(self, fault: Fault | None, at: int) -> None:
        self.run(sweep_orders, self.container(fault, at))

    @rule(fault=st.sampled_from([None, *TROUBLES]), at=st.integers(0, 25))
    def the_settlement_runs(self, fault: Fault | None, at: int) -> None:
        self.run(settle_orders, self.container(fault, at))

    @rule()
    def two_settlements_run(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(settle_orders, [self.stall.container() for _ in range(2)]))

    @precondition(lambda self: self.stall.queue())
    @rule()
    def the_operator_decides(self) -> None:
        """By what the panel's own page shows."""
        order = next(one for one in self.stall.orders() if one.id in self.stall.queue())
        sold = self.stall.sold().get(name_of(order), [])
        decision = ("--provider-order", str(sold[0].id)) if sold else ("--not-placed",)
        if not self.stall.late:
            self.stall.resolve(self.stall.container(), *decision, order=order.id)

    @rule(data=st.data())
    def the_panel_pays_back_what_it_had_completed(self, data: Any) -> None:
        done = [one for one in self.stall.panel.orders.values() if one.stage is Stage.COMPLETED]
        if done:
            one = data.draw(st.sampled_from(done))
            self.stall.panel.move(one, Stage.REFUNDED)
            self.stall.panel.give_back(one)

    @invariant()
    def the_promises_hold(self) -> None:
        verdict = self.stall.judge(at_rest=False)
        assert verdict.is_good, verdict

    def teardown(self) -> None:
        self.stall.settle_down()
        for _ in range(3):  # what had ended is looked at again after a day, three days and seven
            self.stall.pass_time(4 * 24 * 60 * MINUTE)
            self.stall.jobs()
        verdict = self.stall.judge()
        assert verdict.is_good, verdict


class Money(RuleBasedStateMachine):
    """Every movement of a wallet, each in a container that may die or not hear of it, and each perhaps twice."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.ids = 1_000_000
        self.numbers = 100
        self.payments: dict[str, int] = {"start": 100 * SECOND}

    def orders(self, fault: Fault | None) -> DynamoOrders:
        wire = Wire(self.world, fault, 0, 1)
        return self.world.twin(wire.client(self.world.parts.table.client)).orders

    def all(self, *states: OrderState) -> list[Order]:
        found = sorted(self.world.parts.orders.page("acme"), key=lambda order: order.id)
        return [order for order in found if not states or order.state in states]

    def move(self, act: Callable[[], object]) -> None:
        """Do it, and do it again where its end was not heard of."""
        with contextlib.suppress(AlreadyBound):
            try:
                act()
            except (Killed, StoreBusy):
                act()

    @property
    def until(self) -> int:
        return self.world.time.at + 2 * SECOND

    @rule(amount=st.integers(1, 5), number=st.integers(0, 3), fault=st.sampled_from([None, *TROUBLES]))
    def is_credited(self, amount: int, number: int, fault: Fault | None) -> None:
        reference = f"payment {number}"
        amount = self.payments.setdefault(reference, amount * SECOND)
        wire = Wire(self.world, fault, 0, 1)
        wallets = [
            self.world.twin(wire.client(self.world.parts.table.client)).wallet,
            self.world.parts.wallet,
        ]
        for wallet in wallets:
            with contextlib.suppress(Killed, StoreBusy):
                wallet.credit("acme", amount, reference=reference)

    @rule(charge=st.integers(1, 60), is_held=st.booleans(), fault=st.sampled_from([None, *TROUBLES]))
    def is_accepted(self, charge: int, fault: Fault | None, *, is_held: bool) -> None:
        self.ids += 1
        amount = charge * SECOND
        order = draft(id=self.ids, charge=amount, held=amount if is_held else None, updated=self.world.time.at)
        unlucky, until = self.orders(fault), self.until
        stores = iter([unlucky])
        self.move(lambda: next(stores, self.world.parts.orders).accept(order, until=until))

    @precondition(lambda self: self.all(OrderState.SENDING, OrderState.UNKNOWN, OrderState.NOT_PLACED))
    @rule(
        data=st.data(),
        what=st.sampled_from(["place", "reject", "lose", "give_up", "restore"]),
        fault=st.sampled_from([None, *TROUBLES]),
    )
    def is_moved(self, data: Any, what: str, fault: Fault | None) -> None:
        order = data.draw(st.sampled_from(self.all()))
        self.numbers += 1
        number, until = self.numbers, self.until
        moves: dict[str, Callable[[DynamoOrders], object]] = {
            "place": lambda orders: orders.place(order, Placed(number), until=until),
            "reject": lambda orders: orders.reject(order, None, until=until),
            "lose": lambda orders: orders.lose(order, "?", until=until),
            "give_up": lambda orders: orders.give_up(order, "!", until=until, source=Source.OPERATOR),
            "restore": lambda orders: orders.restore(order, number, until=until),
        }
        stores = iter([self.orders(fault)])
        self.move(lambda: moves[what](next(stores, self.world.parts.orders)))

    @precondition(lambda self: self.all(OrderState.PLACED))
    @rule(data=st.data(), part=st.integers(0, 4), fault=st.sampled_from([None, *TROUBLES]))
    def is_paid_back(self, data: Any, part: int, fault: Fault | None) -> None:
        order = data.draw(st.sampled_from(self.all(OrderState.PLACED)))
        if order.held is not None:
            return
        refunded = max(order.refunded, order.charge * part // 4)
        reading = Reading(status=OrderStatus.IN_PROGRESS, start_count=None, remains=None, at=self.world.time.at + part)
        stores, until = iter([self.orders(fault)]), self.until
        self.move(lambda: next(stores, self.world.parts.orders).observe(order, reading, refunded=refunded, until=until))
        self.world.time.at += 10

    @precondition(lambda self: any(one.held is None for one in self.all(OrderState.PLACED)))
    @rule(data=st.data(), status=st.sampled_from(["partial", "canceled"]), fault=st.sampled_from([None, *TROUBLES]))
    def ends_without_a_word_of_its_refund(self, data: Any, status: str, fault: Fault | None) -> None:
        order = data.draw(st.sampled_from([one for one in self.all(OrderState.PLACED) if one.held is None]))
        reading = Reading(status=OrderStatus(status), start_count=None, remains=None, at=self.world.time.at)
        stores, until = iter([self.orders(fault)]), self.until
        self.move(lambda: next(stores, self.world.parts.orders).observe(order, reading, refunded=None, until=until))
        self.world.time.at += 10

    @precondition(lambda self: any(one.refund_open for one in self.all()))
    @rule(data=st.data(), part=st.integers(0, 4), fault=st.sampled_from([None, *TROUBLES]))
    def is_decided(self, data: Any, part: int, fault: Fault | None) -> None:
        order = data.draw(st.sampled_from([one for one in self.all() if one.refund_open]))
        amount, until = (order.charge - order.refunded) * part // 4, self.until
        stores = iter([self.orders(fault)])
        self.move(lambda: next(stores, self.world.parts.orders).decide_refund(order, amount, until=until))

    @precondition(lambda self: any(one.held is not None for one in self.all(OrderState.PLACED)))
    @rule(data=st.data(), charge=st.integers(0, 40), is_end=st.booleans(), fault=st.sampled_from([None, *TROUBLES]))
    def a_subscription_goes_on(self, data: Any, charge: int, fault: Fault | None, *, is_end: bool) -> None:
        mine = [one for one in self.all(OrderState.PLACED) if one.held is not None]
        parent = data.draw(st.sampled_from(mine))
        held, until, stores = parent.held or 0, self.until, iter([self.orders(fault)])
        if is_end:
            spent = min(charge * SECOND, held)
            self.move(lambda: next(stores, self.world.parts.orders).end_subscription(parent, spent=spent, until=until))
            return
        self.ids, self.numbers = self.ids + 1, self.numbers + 1
        child = draft(
            id=self.ids,
            charge=charge * SECOND,
            state=OrderState.PLACED,
            parent=parent.id,
            provider_order=self.numbers,
            updated=self.world.time.at,
        )
        self.move(lambda: next(stores, self.world.parts.orders).adopt(parent, child, until=until))

    @invariant()
    def the_operator_is_asked_what_is_open(self) -> None:
        asked = {order.id for order in self.world.parts.orders.undecided(Account("smosale"))}
        assert asked == {order.id for order in self.all() if order.refund_open}

    @invariant()
    def no_cent_is_made_or_lost(self) -> None:
        entries = list(self.world.parts.wallet.ledger("acme"))
        credited = {entry["id"]: entry["available"] for entry in entries if entry["kind"] == "credit"}
        assert credited.items() <= self.payments.items()
        held = spent = 0
        for order in self.all():
            open_ = order.state in (OrderState.SENDING, OrderState.UNKNOWN)
            is_placed = order.state is OrderState.PLACED
            assert 0 <= order.refunded <= order.charge
            held += order.charge if open_ else (order.held or 0) if is_placed else 0
            spent += (order.price - (order.held or 0)) if is_placed else 0
        assert self.world.money() == (sum(credited.values()) - held - spent, held)


def run(factory: Callable[[], RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(factory, settings=BOUNDED)  # type: ignore[arg-type] # any factory will do


def test_random_lives_of_orders(new_stall: Callable[..., Stall]) -> None:
    run(lambda: Orders(new_stall("smosale")))


def test_random_movements_of_money(new_world: Callable[[], World]) -> None:
    run(lambda: Money(new_world()))
