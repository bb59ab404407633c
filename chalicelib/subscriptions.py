"""A subscription after it was placed: the panel makes an order for each post, and each is charged when it is seen.

The panel's status names its child orders (protocol.md 1.5). Each becomes an order of ours, under an id of ours, paid
out of what the subscription holds. When the subscription has ended and all its orders are known, the rest of the hold
goes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from chalicelib import money
from chalicelib.actions import Action, Status
from chalicelib.batching import Batcher, Patience
from chalicelib.clock import Clock
from chalicelib.errors import AlreadyBound, StoreBusy
from chalicelib.log import logger
from chalicelib.model import (
    FINAL,
    NOT_BEGUN,
    PAID_BACK_WHOLE,
    Attempt,
    Change,
    Order,
    OrderState,
    OrderStatus,
    Reading,
    Source,
    random_id,
)
from chalicelib.ports import Orders

# One look takes in this many new orders; the rest waits for the next look.
_AT_ONCE = 100
# A child that is first seen like this has been paid back whole.


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Follows subscriptions; everything it needs is handed in."""

    orders: Orders
    batcher: Batcher
    clock: Clock

    def follow(
        self, order: Order, status: Status, reading: Reading, patience: Patience, *, until: int
    ) -> tuple[Order, Reading]:
        """Take in the orders that a subscription has made, and end it when it has ended.

        Returns:
            The subscription as it is then, and the reading to keep: not a final one before all is taken in.
        """
        new = [n for n in status.orders or () if n not in order.children and n != order.provider_order]
        try:
            order = self._adopted(order, new[:_AT_ONCE], patience, until)
            self.clock.require(until)
            if reading.status in FINAL and order.spent is None and all(number in order.children for number in new):
                order = self._ended(order, status, until)
        except StoreBusy as error:
            logger.warning("subscription not followed", extra={"facts": {"order": order.id, "cause": str(error)}})
        if reading.status in FINAL and order.spent is None:
            reading = replace(reading, status=OrderStatus.ACTIVE)
        return order, reading

    def _adopted(self, order: Order, numbers: Sequence[int], patience: Patience, until: int) -> Order:
        """Take in what can be; each of the others stands in the log, and keeps the subscription from ending."""
        statuses = self.batcher.ask(order.account, Action.STATUS, numbers, patience) if numbers else {}
        for number in numbers:
            status = statuses[number]
            if number in order.children:
                continue
            if self.clock.now() >= until:
                break
            if not isinstance(status, Status):
                _tell("a subscription's order cannot be read", order, number)
                continue
            try:
                grown = self.orders.adopt(order, self._child(order, number, status), until=until)
            except AlreadyBound:
                _tell("a subscription names an order that is another's", order, number)
                continue
            if grown is None:
                _tell("the wallet does not hold what a subscription's order costs", order, number)
                break
            order = grown
        return order

    def _child(self, parent: Order, number: int, status: Status) -> Order:
        now = self.clock.now()
        units = _units(parent, status)
        return Order(
            id=random_id(),
            tenant=parent.tenant,
            client=parent.client,
            provider=parent.provider,
            service=parent.service,
            public_service=parent.public_service,
            link=None,
            quantity=max(units, status.remains or 0, int(parent.extra["min"])),
            runs=None,
            interval=None,
            charge=money.charge(parent.rate, units),
            rate=parent.rate,
            cost=parent.cost,
            funding=parent.funding,
            state=OrderState.PLACED,
            # The panel made it by itself: nothing was sent for it.
            attempt=Attempt(token="", send_by=0),
            attempts=0,
            created=now,
            updated=now,
            fingerprint="",
            audience=parent.audience,
            provider_order=number,
            reading=_last_word(status, now),
            journal=(Change(now, Source.PANEL, OrderState.PLACED),),
            parent=parent.id,
            own_key=parent.own_key,
        )

    def _ended(self, order: Order, status: Status, until: int) -> Order:
        """Give the rest of the hold back, if it is known what the subscription owes.

        A panel that names no orders may say what it charged in all. One that says neither may have delivered, so the
        hold stays until the operator has looked.
        """
        spent = 0
        if not status.orders and (status.charge is not None or status.orders is None):
            if status.charge is None:
                _tell("a subscription ended without a word of its orders", order, order.provider_order)
                return order
            children = self.orders.get_many(order.tenant, order.children.values())
            paid = sum(child.price for child in children.values())
            spent = max(0, money.charge(order.rate, _sold(order, status.charge)) - paid)
        return self.orders.end_subscription(order, spent=min(order.held or 0, spent), until=until)


def _tell(event: str, order: Order, number: int | None) -> None:
    logger.error(event, extra={"facts": {**order.facts, "provider_order": number}})


def _last_word(status: Status, now: int) -> Reading | None:
    """Return the reading of a child that had ended before it was seen, unless a refund is still to come.

    What the panel charges for it is what is left after its refund: nothing more goes back.
    """
    if status.status is None or status.status not in FINAL:
        return None
    if status.charge is None and status.status is OrderStatus.PARTIAL:
        return None
    return Reading(
        status=status.status, start_count=status.start_count, remains=status.remains, at=now, charge=status.charge
    )


def _units(parent: Order, status: Status) -> int:
    """Return how many units a child order is charged for: what it cost there, or what remains of one not yet begun.

    Of one that has begun, without a charge, nothing says how large it was: the most that a post gets, then.
    """
    most = int(parent.extra["max"])
    if status.status in PAID_BACK_WHOLE or (status.status is OrderStatus.CANCELED and status.charge is None):
        return 0
    if status.charge is not None and parent.cost:
        return min(most, _sold(parent, status.charge))
    untouched = status.status in NOT_BEGUN and status.remains is not None
    return min(most, status.remains or most) if untouched else most


def _sold(order: Order, charge: Decimal) -> int:
    """Return for how many units a provider charges an amount, at the price that it asked when the order was placed."""
    return int((charge * 1000 / order.cost).to_integral_value(ROUND_HALF_UP)) if order.cost else 0
