"""Each guard is taken out once: then a promise breaks that holds with it, in the very same scene."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from chalicelib.clock import MINUTE, SECOND
from chalicelib.model import Order
from chalicelib.panels.dialect import Reply
from chalicelib.settlement import Settlement
from chalicelib.wiring import Parts
from sandbox.orders import Stage
from tests.faults import SEND, TRANSACT, Fault, Faulty, Hit, Wire, broken_after, late, reply_lost, vanished
from tests.judging import Verdict
from tests.scenarios import FOR_EVER, NAME, known, mishap
from tests.stall import Stall

Scene = Callable[[Stall], None]


@dataclass(frozen=True)
class Guard:
    """A condition of the store: of the writes to keys with this prefix that name this in their condition.

    Called, it lets a write pass without it.
    """

    sort_key: str
    named: str = ""

    def __call__(self, _name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        request |= self._without(request)
        return call()

    def _without(self, request: dict[str, Any]) -> dict[str, Any]:
        writes = request.get("TransactItems")
        if writes is None:
            return self._weakened(request)
        return {**request, "TransactItems": [{kind: self._weakened(w) for kind, w in one.items()} for one in writes]}

    def _weakened(self, write: dict[str, Any]) -> dict[str, Any]:
        condition = write.get("ConditionExpression", "")
        key = write.get("Key") or write.get("Item") or {}
        if not condition or not key["sk"]["S"].startswith(self.sort_key) or self.named not in condition:
            return write
        # The names and values stay in use, as the store demands.
        return {**write, "ConditionExpression": f"({condition}) OR attribute_not_exists(pk) OR attribute_exists(pk)"}


def result(stall: Stall, scene: Scene) -> Verdict:
    scene(stall)
    stall.settle_down()
    return stall.judge()


# -- guards that are conditions of the store ---------------------------------------------------------------------------


def claimed_twice(stall: Stall) -> None:
    """Two containers take the same key, the one between the other's look and its acceptance."""
    done: list[str] = []

    def meanwhile(hit: Hit) -> object:
        if hit.name == TRANSACT and not done:
            done.append(stall.add(NAME, stall.container()))
        return hit.call()

    known(stall)
    stall.add(NAME, stall.container(Wire(stall, meanwhile, 0, FOR_EVER)))


def settled_before_its_sender_gives_up(stall: Stall) -> None:
    """The jobs' clock is ahead: they place the order while its sender still waits for an answer that means nothing."""
    known(stall)

    def meanwhile(hit: Hit) -> object:
        reply = broken_after(hit)
        stall.time.at += 5 * MINUTE
        stall.jobs()
        stall.time.at -= 5 * MINUTE
        return reply

    mishap(stall, meanwhile)


def named_twice(stall: Stall) -> None:
    """A panel answers with the number of an order that another one of ours has."""
    known(stall)
    [first] = stall.sold()["before"]
    mishap(stall, lambda _hit: Reply(200, {}, b'{"order":%d}' % first.id))


def paid_back_twice(stall: Stall) -> None:
    """Somebody sees a partial order, and writes that down when somebody else has seen it refunded."""
    stall.add(f"{NAME}-partial")
    stall.pass_time(90 * SECOND)

    def meanwhile(hit: Hit) -> object:
        if hit.name == TRANSACT and not done:
            done.append(hit.name)
            [sold] = stall.sold()[f"{NAME}-partial"]
            stall.panel.move(sold, Stage.REFUNDED)
            stall.panel.give_back(sold)
            stall.status(stall.container())
        return hit.call()

    done: list[str] = []
    stall.status(stall.container(Wire(stall, meanwhile, 0, FOR_EVER)))


@pytest.mark.parametrize(
    ("guard", "scene", "breaks"),
    [
        (Guard("CLAIM#"), claimed_twice, "doubled"),
        (Guard("ORDER#", "#attempt.#token"), settled_before_its_sender_gives_up, "difference"),
        (Guard("BOUND#"), named_twice, "wrong"),
        (Guard("ORDER#", ":before"), paid_back_twice, "difference"),
    ],
    ids=["claim", "attempt", "binding", "refund"],
)
def test_without_a_condition_of_the_store_a_promise_breaks(
    new_stall: Callable[..., Stall], guard: Guard, scene: Scene, breaks: str
) -> None:
    assert result(new_stall("smosale"), scene).is_good
    unguarded = new_stall("smosale", lambda real: Faulty(real, guard))
    assert breaks in result(unguarded, scene).broken


# -- guards that are code ----------------------------------------------------------------------------------------------


def arrives_late(stall: Stall) -> None:
    known(stall)
    mishap(stall, late)


def has_a_twin(stall: Stall) -> None:
    """Two alike are not known, and the second of them was bought."""
    known(stall)
    for fault in (vanished, reply_lost):
        wire = Wire(stall, at_the_send(fault), 0, FOR_EVER)
        stall.add(fault.__name__, stall.container(wire))
        stall.pass_time(SECOND)


def at_the_send(fault: Fault) -> Fault:
    return lambda hit: fault(hit) if hit.name == SEND else hit.call()


def no_quiet_period(stall: Stall) -> None:
    stall.market.registry.change_provider(stall.slug, partial(replace, quiet=0))


class Rash(Settlement):
    """A settlement that does not ask whose else a number may be."""

    def _may_be(self, _other: Order, _number: int, _case: Any) -> bool:
        return False


def no_rivals(stall: Stall) -> None:
    parts, real = stall.parts, stall.parts.settlement
    rash = Rash(real.orders, real.accounts, real.batcher, real.clock)
    stall.market.parts = replace(parts, settlement=rash)


@pytest.mark.parametrize(
    ("mutate", "scene", "breaks"),
    [(no_quiet_period, arrives_late, "lost"), (no_rivals, has_a_twin, "wrong")],
    ids=["quiet period", "rivals"],
)
def test_without_a_check_of_the_settlement_a_promise_breaks(
    new_stall: Callable[..., Stall], mutate: Callable[[Stall], None], scene: Scene, breaks: str
) -> None:
    assert result(new_stall("smosale"), scene).is_good
    mutant = new_stall("smosale")
    mutate(mutant)
    assert breaks in result(mutant, scene).broken


def unpunctual(stall: Stall, wire: Wire) -> Parts:
    """Return a container whose sender sends at any time."""
    table, secrets = wire.client(stall.parts.table.client), wire.client(stall.market.secrets)
    return stall.market.twin(table, secrets, wire.sender())


@pytest.mark.parametrize("container", [Stall.container, unpunctual])
def test_without_the_senders_own_deadline_a_promise_breaks(
    stall: Stall, container: Callable[[Stall, Wire], Parts]
) -> None:
    """A container is frozen with its key in hand until its order has been given up, and its answer is lost."""
    known(stall)

    def frozen(hit: Hit) -> object:
        if hit.name == "get_secret_value":
            reply = hit.call()
            stall.settle_down()
            return reply
        return reply_lost(hit) if hit.name == SEND else hit.call()

    stall.add(NAME, container(stall, Wire(stall, frozen, 0, FOR_EVER)))
    assert result(stall, lambda _stall: None).broken == (set() if container is Stall.container else {"lost"})
