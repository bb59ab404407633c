"""How orders are doing, one or many at once.

What is final or fresh is answered from the store; the rest is asked of its panels, side by side. A panel that cannot
be asked changes nothing of what is known: its orders are answered as they were last seen, as stale.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chalicelib.actions import Action, Placed, Reason, Refused, Status
from chalicelib.batching import Batcher, Outcome, Patience, reading_patience, side_by_side
from chalicelib.clock import Clock
from chalicelib.commands import StatusCommand
from chalicelib.errors import AlreadyBound, StoreBusy
from chalicelib.evidence import alike, confirms, is_parent
from chalicelib.log import logger
from chalicelib.model import FINAL, OF_PARENTS, Order, OrderState, OrderStatus, Reading, Source, may_follow
from chalicelib.order_types import SUBSCRIPTIONS, quoted, total_units
from chalicelib.ports import Orders
from chalicelib.refunds import refund
from chalicelib.results import (
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
        patience = reading_patience(self.clock.now(), session.deadline.ask)
        fresh = {order.id: progress for order, progress in self.refresh(due, patience, until=session.deadline.record)}
        now = self.clock.now()
        return {
            target: no_such_order() if order is None else fresh.get(order.id) or last_known(order, now)
            for target, order in orders.items()
        }

    def refresh(self, orders: Sequence[Order], patience: Patience, *, until: int) -> Sequence[tuple[Order, Progress]]:
        """Ask the panels how orders are doing, and take that in.

        Args:
            orders: those that are placed, or that their provider had not confirmed.
            patience: how long to ask.
            until: when to be done with the store, in epoch µs.
        """
        # Where a panel's pace is too slow for all of them, those that waited longest come first.
        asked = sorted(orders, key=lambda order: order.reading.at if order.reading else 0)
        numbers = {n: (order.account, _number(order)) for n, order in enumerate(asked)}
        outcomes = self.batcher.ask_all(Action.STATUS, numbers, patience)
        told = side_by_side(lambda n: self._refreshed(asked[n], outcomes[n], patience, until), numbers)
        return list(zip(asked, told, strict=True))

    def _is_due(self, order: Order) -> bool:
        if not _number(order):
            return False
        reading = order.reading
        return reading is None or not (reading.status in FINAL or is_fresh(reading.at, self.clock.now()))

    def _refreshed(self, order: Order, outcome: Outcome, patience: Patience, until: int) -> Progress:
        """Take in what the panel says of an order, or fall back on what it last said."""
        if not isinstance(outcome, Status):
            cause = outcome.text if isinstance(outcome, Refused) else str(outcome)
            _warn("status not refreshed", order, cause)
            is_gone = isinstance(outcome, Refused) and outcome.reason is Reason.ORDER
            return replace(last_known(order, self.clock.now(), stale=True), is_gone=is_gone)
        if order.state is not OrderState.PLACED:
            confirmed = self._confirmed(order, outcome, until)
            if confirmed is None:
                return last_known(order, self.clock.now())
            order = confirmed
        reading = self._reading(order, outcome)
        known = order.reading.status if order.reading else None
        if not may_follow(known, reading.status):
            logger.error("not believed", extra={"facts": {**order.facts, "was": known, "is": reading.status}})
            return last_known(order, self.clock.now())
        if order.type == SUBSCRIPTIONS:
            follower = Subscriptions(self.orders, self.batcher, self.clock)
            patience = reading_patience(self.clock.now(), patience.end)
            order, reading = follower.follow(order, outcome, reading, patience, until=until)
        _compare_charge(order, reading)
        refunded = refund(order, reading, outcome)
        try:
            self.clock.require(until)
            stored = self.orders.observe(order, reading, refunded=refunded, until=until)
        except StoreBusy as error:
            _warn("reading not kept", order, str(error))
            # What was not paid back is not told of as if it were.
            told = last_known(order, self.clock.now(), stale=True)
            return told if refunded != order.refunded else in_progress(order, reading, stale=False)
        # Where a neighbour's reading stands, it tells itself how old it is.
        is_ours = stored.reading == reading
        return in_progress(stored, reading, stale=False) if is_ours else last_known(stored, self.clock.now())

    def _confirmed(self, order: Order, status: Status, until: int) -> Order | None:
        """Place an order that its provider has confirmed since; None if it has not, or if that cannot be written."""
        number = _number(order)
        if not confirms(status):
            return None
        sentence = f"the provider confirmed its order {number}"
        try:
            self.clock.require(until)
            if self.orders.place(order, Placed(number), until=until, source=Source.PANEL, evidence=sentence):
                return replace(order, state=OrderState.PLACED, provider_order=number)
        except (AlreadyBound, StoreBusy) as error:
            _warn("confirmation not recorded", order, str(error))
        return None

    def _reading(self, order: Order, status: Status) -> Reading:
        known = status.status
        if known is OrderStatus.UNKNOWN or (known in OF_PARENTS and not is_parent(order)):
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
            charge=status.charge,
            posts=status.posts,
            expiry=status.expiry,
        )


def _compare_charge(order: Order, reading: Reading) -> None:
    """Tell the operator of a charge that is not what the catalog had promised; the tenant pays what was promised."""
    quote = quoted(order)
    if order.reading is not None or quote is None or reading.charge is None or reading.status in FINAL:
        return
    if not alike(reading.charge, quote):
        figures = {"quote": str(quote), "charge": str(reading.charge)}
        logger.warning("charged otherwise", extra={"facts": {**order.facts, **figures}})


def _number(order: Order) -> int:
    """Return the provider's number of an order that can be asked for, else 0."""
    if order.state is OrderState.PLACED:
        return order.provider_order or 0
    return order.pending_order or 0 if order.state is OrderState.UNKNOWN else 0


def _warn(event: str, order: Order, cause: str) -> None:
    logger.warning(event, extra={"facts": {**order.facts, "cause": cause[:300]}})
