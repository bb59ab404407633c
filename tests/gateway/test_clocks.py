"""Clocks that disagree or step back, senders that wake up too late, and settlements that run twice at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle

import pytest

from chalicelib.clock import MINUTE, SECOND, Clock
from chalicelib.errors import NeverSent
from chalicelib.jobs import settle_orders, sweep_orders
from chalicelib.model import OrderState
from chalicelib.panels.dialect import Reply
from tests.faults import SEND, Fault, Hit, Wire, killed_before, late, reply_lost, vanished
from tests.scenarios import FOR_EVER, NAME, known, mishap, unknown
from tests.stage import MovableClock
from tests.stall import CREDIT, Stall

AHEAD, BEHIND = 5 * MINUTE, -5 * MINUTE
PRICE = 900_000


@dataclass
class Skewed:
    """A container's clock: the true one and an error of its own."""

    true: MovableClock
    error: int

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.true.at + self.error, sleep=self.true.sleep)


def at_the_send(fault: Fault) -> Fault:
    return lambda hit: fault(hit) if hit.name == SEND else hit.call()


def trouble(stall: Stall, clock: Clock) -> None:
    """Buy four things of four sizes from containers with such a clock; each comes to nothing known."""
    for size, fault in enumerate((reply_lost, vanished, killed_before, late)):
        wire = Wire(stall, at_the_send(fault), 0, FOR_EVER)
        stall.add(f"{fault.__name__}", stall.container(wire, clock), quantity=1000 + 100 * size)
        stall.late += wire.late
        stall.pass_time(SECOND)


def settle_down(stall: Stall, sweeper: Callable[[], Clock], settler: Callable[[], Clock], minutes: int = 40) -> None:
    for _ in range(minutes):
        stall.pass_time(MINUTE)
        sweep_orders(stall.container(clock=sweeper()))
        settle_orders(stall.container(clock=settler()))
        if not stall.late and not stall.unsettled():
            break
    stall.settle_down(1)


# Every pair of two of them has every pair of errors.
@pytest.mark.parametrize(
    ("api", "sweeper", "settler"),
    [
        (0, 0, 0),
        (0, AHEAD, AHEAD),
        (0, BEHIND, BEHIND),
        (AHEAD, 0, AHEAD),
        (AHEAD, AHEAD, BEHIND),
        (AHEAD, BEHIND, 0),
        (BEHIND, 0, BEHIND),
        (BEHIND, AHEAD, 0),
        (BEHIND, BEHIND, AHEAD),
    ],
)
def test_containers_whose_clocks_differ(stall: Stall, api: int, sweeper: int, settler: int) -> None:
    known(stall)
    trouble(stall, Skewed(stall.time, api).clock)
    settle_down(stall, lambda: Skewed(stall.time, sweeper).clock, lambda: Skewed(stall.time, settler).clock)
    assert stall.judge().is_good, stall.judge()
    assert not stall.unsettled()


@pytest.mark.parametrize("errors", [(AHEAD, 0), (0, BEHIND), (AHEAD, BEHIND), (BEHIND, AHEAD), (AHEAD, 0, BEHIND)])
def test_clocks_that_step_between_calls(stall: Stall, errors: tuple[int, ...]) -> None:
    following = cycle(errors)

    def clock() -> Clock:
        return Skewed(stall.time, next(following)).clock

    stall.add("before", stall.container(clock=clock()))
    settle_down(stall, clock, clock, 2)
    trouble(stall, clock())
    settle_down(stall, clock, clock)
    assert stall.judge().is_good, stall.judge()


# -- a sender that wakes up too late -----------------------------------------------------------------------------------


def bought(hit: Hit) -> Reply:
    reply: Reply = hit.arrive()
    return reply


def bought_unheard(hit: Hit) -> Reply:
    hit.arrive()
    raise hit.lose()


def refused(_hit: Hit) -> Reply:
    return Reply(200, {}, b'{"error":"Incorrect link"}')


def not_sent(_hit: Hit) -> Reply:
    raise NeverSent("no connection")


def swept(stall: Stall) -> None:
    stall.pass_time(2 * MINUTE)
    sweep_orders(stall.container())
    assert stall.orders()[0].state is OrderState.UNKNOWN


def swept_at_once(stall: Stall) -> None:
    sweep_orders(stall.container(clock=Skewed(stall.time, AHEAD).clock))
    assert stall.orders()[0].state is OrderState.UNKNOWN


def settled(stall: Stall) -> None:
    stall.settle_down()
    assert stall.orders()[0].state is OrderState.NOT_PLACED


def given_up(stall: Stall) -> None:
    swept(stall)
    stall.pass_time(3 * MINUTE)
    stall.resolve(stall.container(), "--not-placed")


@pytest.mark.parametrize("meets", [swept_at_once, swept, settled, given_up])
@pytest.mark.parametrize("brings", [bought, bought_unheard, refused, not_sent])
def test_a_sender_that_wakes_up_too_late(
    stall: Stall, meets: Callable[[Stall], None], brings: Callable[[Hit], Reply]
) -> None:
    """Its success is never dropped, and its failure gives nothing back twice."""
    known(stall)

    def asleep(hit: Hit) -> Reply:
        meets(stall)
        return brings(hit)

    mishap(stall, asleep)
    woke_up_in = stall.orders()[0]
    stall.settle_down()
    [order, _before] = stall.orders()
    is_bought = brings in (bought, bought_unheard)
    if meets in (settled, given_up):
        assert order.state is OrderState.NOT_PLACED
        assert stall.money_of_all() == CREDIT - PRICE
        if brings is bought:
            [late] = stall.sold()[NAME]
            assert (order.late_order, stall.queue()) == (late.id, [order.id])
    else:
        assert (woke_up_in.state is OrderState.PLACED) is (brings is bought)
        assert order.state is (OrderState.PLACED if is_bought else OrderState.NOT_PLACED)
        assert stall.money_of_all() == CREDIT - PRICE * (1 + is_bought)
    verdict = stall.judge()
    if meets in (settled, given_up) and brings is bought_unheard:
        assert verdict.lost, "nobody could hear of it: the quiet period was too short for this panel"
        verdict.lost = []
    assert verdict.is_good, verdict


# -- two settlements at once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [reply_lost, vanished])
def test_jobs_that_run_several_times_at_once(stall: Stall, fault: Fault) -> None:
    unknown(fault)(stall)
    for _ in range(6):
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(stall.jobs, stall.container()) for _ in range(4)]
            assert [one.result() for one in done]
        stall.pass_time(MINUTE)
    assert stall.judge().is_good, stall.judge()
    assert not stall.unsettled()


def test_a_quiet_period_is_not_cut_short_by_a_settlement_whose_clock_is_ahead(stall: Stall) -> None:
    known(stall)
    mishap(stall, late)
    for error in (BEHIND, AHEAD):
        stall.pass_time(5 * SECOND)
        settle_orders(stall.container(clock=Skewed(stall.time, error).clock))
        stall.pass_time(50 * SECOND)
    stall.settle_down()
    assert stall.judge().is_good, stall.judge()
