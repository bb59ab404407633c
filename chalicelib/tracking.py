"""How orders are doing, one or many at once.

What is final or fresh is answered from the store; the rest is asked of its panels, side by side. A panel that cannot
be asked changes nothing of what is known: its orders are answered as they were last seen, as stale.
"""

from dataclasses import dataclass

from chalicelib.actions import Action, Refused, Status
from chalicelib.batching import Batcher, Outcome, reading_patience, side_by_side
from chalicelib.commands import StatusCommand
from chalicelib.errors import StoreBusy
from chalicelib.log import logger
from chalicelib.model import FINAL, Order, OrderState, OrderStatus, Reading
from chalicelib.order_types import SUBSCRIPTIONS, total_units
from chalicelib.ports import Clock, Orders
from chalicelib.purchase import Deadline
from chalicelib.refunds import refund
from chalicelib.results import (
    OF_PARENTS,
    Found,
    Progress,
    in_progress,
    is_fresh,
    last_known,
    looked_up,
    no_such_order,
    present,
)
from chalicelib.session import Session
from chalicelib.subscriptions import Subscriptions


@dataclass(frozen=True, slots=True)
class Tracking:
    """Follows orders; everything it needs is handed in."""

    orders: Orders
    batcher: Batcher
    clock: Clock

    def statuses(self, session: Session, command: StatusCommand) -> Found:
        """Return how the orders that are asked for are doing."""
        orders = looked_up(command.targets, lambda ids: session.visible(self.orders.get_many(session.tenant.id, ids)))
        due = [order for order in present(orders) if self._is_due(order)]
        # Where a panel's pace is too slow for all of them, those that waited longest come first.
        due.sort(key=lambda order: order.reading.at if order.reading else 0)
        numbers = {order.id: (order.provider, order.provider_order or 0) for order in due}
        patience = reading_patience(self.clock.now(), session.deadline.ask)
        outcomes = self.batcher.ask_all(Action.STATUS, numbers, patience)

        def refresh(order: Order) -> Progress:
            return self._refreshed(order, outcomes[order.id], session.deadline)

        fresh = {progress.order.id: progress for progress in side_by_side(refresh, due)}
        now = self.clock.now()
        return {
            target: no_such_order() if order is None else fresh.get(order.id) or last_known(order, now)
            for target, order in orders.items()
        }

    def _is_due(self, order: Order) -> bool:
        if order.state is not OrderState.PLACED or order.provider_order is None:
            return False
        reading = order.reading
        return reading is None or not (reading.status in FINAL or is_fresh(reading.at, self.clock.now()))

    def _refreshed(self, order: Order, outcome: Outcome, deadline: Deadline) -> Progress:
        """Take in what the panel says of an order, or fall back on what it last said."""
        if not isinstance(outcome, Status):
            cause = outcome.text if isinstance(outcome, Refused) else str(outcome)
            _warn("status not refreshed", order, cause)
            return last_known(order, self.clock.now(), stale=True)
        reading = self._reading(order, outcome)
        if order.type == SUBSCRIPTIONS:
            follower = Subscriptions(self.orders, self.batcher, self.clock)
            patience = reading_patience(self.clock.now(), deadline.ask)
            order, reading = follower.follow(order, outcome, reading, patience, until=deadline.record)
        refunded = refund(order, reading, outcome)
        try:
            self.clock.require(deadline.record)
            stored = self.orders.observe(order, reading, refunded=refunded, until=deadline.record)
        except StoreBusy as error:
            _warn("reading not kept", order, str(error))
            # What was not paid back is not told of as if it were.
            told = last_known(order, self.clock.now(), stale=True)
            return told if refunded > order.refunded else in_progress(order, reading, stale=False)
        # Where a neighbour's reading stands, it tells itself how old it is.
        is_ours = stored.reading == reading
        return in_progress(stored, reading, stale=False) if is_ours else last_known(stored, self.clock.now())

    def _reading(self, order: Order, status: Status) -> Reading:
        known = status.status
        is_parent = order.type == SUBSCRIPTIONS or order.runs is not None
        if known is OrderStatus.UNKNOWN or (known in OF_PARENTS and not is_parent):
            known = None
        if known is None:
            _warn("unknown status", order, status.raw_status[:64])
        total = total_units(order)
        # Some panels say that more remains than was ordered (protocol.md 1.5).
        remains = status.remains if total is None or status.remains is None else min(status.remains, total)
        return Reading(
            status=known or (order.reading.status if order.reading else OrderStatus.UNKNOWN),
            start_count=status.start_count,
            remains=remains,
            at=self.clock.now(),
            posts=status.posts,
            expiry=status.expiry,
        )


def _warn(event: str, order: Order, cause: str) -> None:
    facts = {"order": order.id, "provider": order.provider, "cause": cause[:300]}
    logger.warning(event, extra={"facts": facts})
