"""Refills and cancellations: requests that are passed on to the panels, and how refills are doing.

They spend nothing, and a panel refuses what it has already; so one whose answer was lost may be made again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from chalicelib.actions import Action, CancelTaken, Reason, RefillReading, RefillTaken, Refused
from chalicelib.batching import READ_PATIENCE, Batcher, Outcome, Patience, reading_patience, side_by_side
from chalicelib.calling import RETRY_AFTER, dialect_of
from chalicelib.clock import Clock
from chalicelib.commands import CancelCommand, RefillCommand, RefillStatusCommand
from chalicelib.errors import Code, PanelgateError, Refusal, StoreBusy, Unavailable, try_later
from chalicelib.log import logger
from chalicelib.model import FINAL_REFILL, Order, OrderState, Refill, RefillStatus, random_id
from chalicelib.ports import Orders, Refills
from chalicelib.purchase import Deadline
from chalicelib.results import (
    Canceling,
    Found,
    Refilled,
    RefillProgress,
    Told,
    is_fresh,
    looked_up,
    no_such_order,
    no_such_refill,
    present,
)
from chalicelib.session import Session

# What a panel's refusal of a request means to the caller; the last sentence is the classic protocol's, where it has
# a better one than its code has.
REFUSALS: Mapping[Reason, tuple[Code, str, str | None]] = MappingProxyType(
    {
        Reason.ORDER: (Code.ORDER_NOT_FOUND, "Incorrect order ID", None),
        Reason.ACTION: (Code.NOT_SUPPORTED, "This order's provider does not take such requests", None),
        Reason.NOT_REFILLABLE: (
            Code.ORDER_REFUSED,
            "This order cannot be refilled",
            "Order not eligible for refill.",
        ),
        Reason.NOT_CANCELABLE: (Code.ORDER_REFUSED, "This order cannot be canceled", "Order cannot be canceled"),
    }
)
_REFUSED = (Code.ORDER_REFUSED, "The request was refused", None)


@dataclass(frozen=True, slots=True)
class Requesting:
    """Passes requests on; everything it needs is handed in."""

    orders: Orders
    refills: Refills
    batcher: Batcher
    clock: Clock

    def refill(self, session: Session, command: RefillCommand) -> Found:
        """Ask for refills of orders."""

        def record(order: Order, outcome: Outcome) -> Told | Refusal:
            if isinstance(outcome, RefillTaken):
                return self._record_refill(order, outcome, session.deadline)
            return _refusal(outcome)

        return self._pass_on(session, command, record)

    def cancel(self, session: Session, command: CancelCommand) -> Found:
        """Ask that orders be canceled."""

        def record(order: Order, outcome: Outcome) -> Told | Refusal:
            return Canceling(order.id) if isinstance(outcome, CancelTaken) else _refusal(outcome)

        return self._pass_on(session, command, record)

    def _pass_on(
        self,
        session: Session,
        command: RefillCommand | CancelCommand,
        record: Callable[[Order, Outcome], Told | Refusal],
    ) -> Found:
        orders = looked_up(command.targets, lambda ids: session.visible(self.orders.get_many(session.tenant.id, ids)))
        refused = {order.id: refusal for order in present(orders) if (refusal := self._untaken(order, command.action))}
        asked = [order for order in present(orders) if order.id not in refused]
        numbers = {order.id: (order.account, order.provider_order or 0) for order in asked}
        outcomes = self.batcher.ask_all(command.action, numbers, Patience(READ_PATIENCE, session.deadline.ask))
        taken = side_by_side(lambda order: record(order, outcomes[order.id]), asked)
        told: dict[int, Told | Refusal] = {**refused, **dict(zip(outcomes, taken, strict=True))}
        return {target: no_such_order() if order is None else told[order.id] for target, order in orders.items()}

    def _untaken(self, order: Order, action: Action) -> Refusal | None:
        """Return why a request cannot even be passed on."""
        provider = self.batcher.directory.providers().get(order.provider)
        try:
            if provider is not None and action not in dialect_of(provider).capabilities.actions:
                return _refusal(Refused(Reason.ACTION, ""))
        except Unavailable as error:
            return try_later(error.retry_after)
        if order.state is OrderState.PLACED and order.provider_order is not None:
            return None
        return _refusal(Refused(Reason.NOT_REFILLABLE if action is Action.REFILL else Reason.NOT_CANCELABLE, ""))

    def _record_refill(self, order: Order, taken: RefillTaken, deadline: Deadline) -> Told | Refusal:
        now = self.clock.now()
        refill = Refill(
            id=random_id(),
            tenant=order.tenant,
            order=order.id,
            provider=order.provider,
            provider_refill=taken.refill,
            status=RefillStatus.UNKNOWN if taken.refill is None else RefillStatus.PENDING,
            created=now,
            at=now,
            own_key=order.own_key,
            audience=order.audience,
        )
        try:
            self.clock.require(deadline.record)
            return Refilled(order.id, self.refills.add(refill, until=deadline.record).id)
        except StoreBusy as error:
            facts = {"order": order.id, "provider_refill": taken.refill, "cause": str(error)}
            logger.error("refill not recorded", extra={"facts": facts})
            return try_later(2)

    def refill_status(self, session: Session, command: RefillStatusCommand) -> Found:
        """Return how refills are doing."""
        refills = looked_up(command.targets, lambda ids: session.visible(self.refills.get_many(session.tenant.id, ids)))
        due = [refill for refill in present(refills) if self._is_due(refill)]
        numbers = {refill.id: (refill.account, refill.provider_refill or 0) for refill in due}
        patience = reading_patience(self.clock.now(), session.deadline.ask)
        outcomes = self.batcher.ask_all(Action.REFILL_STATUS, numbers, patience)

        def refresh(refill: Refill) -> Refill:
            return self._refreshed(refill, outcomes[refill.id], session.deadline)

        fresh = {refill.id: refill for refill in side_by_side(refresh, due)}
        return {
            target: no_such_refill()
            if refill is None
            else RefillProgress(refill.id, fresh.get(refill.id, refill).status)
            for target, refill in refills.items()
        }

    def _is_due(self, refill: Refill) -> bool:
        if refill.provider_refill is None or refill.status in FINAL_REFILL:
            return False
        return refill.at == refill.created or not is_fresh(refill.at, self.clock.now())

    def _refreshed(self, refill: Refill, outcome: Outcome, deadline: Deadline) -> Refill:
        if not isinstance(outcome, RefillReading) or outcome.status is None:
            facts = {"refill": refill.id, "provider": refill.provider, "cause": str(outcome)[:300]}
            logger.warning("refill not refreshed", extra={"facts": facts})
            return refill
        fresh = replace(refill, status=outcome.status, at=self.clock.now())
        try:
            self.clock.require(deadline.record)
            self.refills.observe(fresh, until=deadline.record)
        except StoreBusy as error:
            logger.warning("reading not kept", extra={"facts": {"refill": refill.id, "cause": str(error)}})
        return fresh


def _refusal(outcome: Outcome) -> Refusal:
    """Return what a caller is told of a request that was not accepted."""
    if not isinstance(outcome, Refused):
        cause = f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, PanelgateError) else "wrong kind"
        logger.warning("request not accepted", extra={"facts": {"cause": cause}})
        return try_later(getattr(outcome, "retry_after", 5))
    if outcome.reason in RETRY_AFTER:
        return try_later(RETRY_AFTER[outcome.reason])
    code, message, classic = REFUSALS.get(outcome.reason, _REFUSED)
    return Refusal(code, message, classic=classic)
