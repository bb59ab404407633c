"""What tenants are told of their orders and refills, one by one or many at once, and how those are looked up."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from chalicelib.actions import Action
from chalicelib.clock import SECOND
from chalicelib.commands import TargetsCommand
from chalicelib.errors import Code, Refusal
from chalicelib.fields import known_id
from chalicelib.model import FINAL, Order, OrderState, OrderStatus, Reading, RefillStatus

T = TypeVar("T")

# A live order's answer is at most this old (contract 4).
FRESH = 15 * SECOND
_ORDINARY: Mapping[OrderStatus, OrderStatus] = MappingProxyType(
    {
        OrderStatus.FAILED: OrderStatus.CANCELED,
        OrderStatus.ACTIVE: OrderStatus.IN_PROGRESS,
        OrderStatus.PAUSED: OrderStatus.PENDING,
        OrderStatus.EXPIRED: OrderStatus.COMPLETED,
    }
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How an order is doing; ``charge`` in micro-USD, ``updated`` in epoch µs.

    ``stale``: the panel could not be asked just now. ``is_gone``: it could, and does not know the order any more.
    """

    order: Order
    charge: int
    status: OrderStatus
    start_count: int | None
    remains: int | None
    updated: int
    stale: bool
    is_gone: bool = False

    @property
    def ordinary_status(self) -> OrderStatus:
        """The status in the words that orders of every type have."""
        return _ORDINARY.get(self.status, self.status)


@dataclass(frozen=True, slots=True)
class Refilled:
    """A refill was accepted, under an id of ours."""

    order: int
    refill: int


@dataclass(frozen=True, slots=True)
class RefillProgress:
    """How a refill is doing."""

    refill: int
    status: RefillStatus


@dataclass(frozen=True, slots=True)
class Canceling:
    """A cancellation was accepted; what comes of it shows in the order's status."""

    order: int


Told = Progress | Refilled | RefillProgress | Canceling
Found = Mapping[str, Told | Refusal]


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to several at once, by the ids as the caller wrote them and in their order."""

    action: Action
    items: Found


def answer(command: TargetsCommand, found: Found) -> Told | Batch:
    """Return what was found, as it was asked for: several, or the one.

    Raises:
        Refusal: of the one; several have a refusal each.
    """
    if command.batch:
        return Batch(command.action, found)
    [one] = found.values()
    if isinstance(one, Refusal):
        raise one
    return one


def looked_up(targets: Sequence[str], get: Callable[[Sequence[int]], Mapping[int, T]]) -> Mapping[str, T | None]:
    """Return what ``get`` finds, by the ids as the caller wrote them; what cannot be ours is not looked for."""
    numbers = {target: number for target in targets if (number := known_id(target)) is not None}
    things = get(list(numbers.values())) if numbers else {}
    return {target: things.get(numbers[target]) if target in numbers else None for target in targets}


def present(found: Mapping[str, T | None]) -> Iterable[T]:
    """Return those that were found."""
    return [thing for thing in found.values() if thing is not None]


def no_such_order() -> Refusal:
    """Return the refusal of an order that is another tenant's, or nobody's."""
    return Refusal(Code.ORDER_NOT_FOUND, "Incorrect order ID", field="order")


def no_such_refill() -> Refusal:
    """Return the refusal of a refill that is another tenant's, or nobody's."""
    return Refusal(Code.REFILL_NOT_FOUND, "Refill not found", field="refill")


def last_known(order: Order, now: int, *, stale: bool = False) -> Progress:
    """Return how an order was doing when it was last seen; ``now`` in epoch µs.

    One whose purchase is not known yet is pending; one that proved never to have been placed is canceled. So is a
    REJECTED one, whose id is known only to a caller whom we could not tell the refusal.
    """
    if order.state in (OrderState.NOT_PLACED, OrderState.REJECTED):
        return Progress(order, 0, OrderStatus.CANCELED, None, None, order.updated, stale=False)
    reading = order.reading or Reading(status=OrderStatus.PENDING, start_count=None, remains=None, at=order.updated)
    old = reading.status not in FINAL and not is_fresh(reading.at, now)
    return in_progress(order, reading, stale=stale or old)


def is_fresh(at: int, now: int) -> bool:
    """Say whether what was read then is fresh now (epoch µs); what comes from a clock ahead of ours is not."""
    return 0 <= now - at <= FRESH


def in_progress(order: Order, reading: Reading, *, stale: bool) -> Progress:
    """Return how an order is doing by a reading of it."""
    return Progress(
        order=replace(order, reading=reading),
        charge=order.price,
        status=reading.status,
        start_count=reading.start_count,
        remains=reading.remains,
        updated=reading.at,
        stale=stale,
    )
