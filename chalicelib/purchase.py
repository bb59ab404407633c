"""What becomes of an accepted ``add``: it is sent, once, and its outcome is written down and told.

It ends in one of four ways: placed, rejected (nothing was bought), unknown (never sent again), or, if this process
dies, SENDING until the sweeper calls it unknown.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chalicelib.actions import Placed, PlaceOrder, Reason, Refused
from chalicelib.calling import RETRY_AFTER, Caller, Window
from chalicelib.clock import SECOND
from chalicelib.errors import (
    AlreadyBound,
    AnswerLost,
    Code,
    NeverSent,
    Refusal,
    StoreBusy,
    Unavailable,
    UnreadableReply,
    try_later,
)
from chalicelib.keys import ProviderKey
from chalicelib.log import logger, request_id
from chalicelib.model import Order, Provider
from chalicelib.order_types import sends_quantity
from chalicelib.ports import Orders

# A panel gets at least this long to answer an `add`; later than that before the deadline none is started.
ANSWER_TIME = 6 * SECOND
# How long after the panel's deadline a try to record the outcome may begin; it takes at most 2 s itself (`wiring`),
# so that a request ends before the 29 s of API Gateway: 25 s to ask, these, and the way back.
RECORD_TIME = 1_500_000
# Characters of a provider's text that are kept as evidence.
KEPT_EVIDENCE = 300

ACTIVE_LINK = (
    Code.DUPLICATE_LINK,
    "You have active order with this link. Please wait until order being completed.",
)
# What a provider's refusal of an `add` means to the caller, where it is the order's trouble. After the operator's
# (`calling.RETRY_AFTER`) nothing was bought either, and the same key may try again.
_PERMANENT: Mapping[Reason, tuple[Code, str]] = {
    Reason.SERVICE: (Code.SERVICE_NOT_FOUND, "This service is not available any more"),
    Reason.LINK: (Code.INVALID_LINK, "The link was not accepted for this service"),
    Reason.DUPLICATE_LINK: ACTIVE_LINK,
    Reason.QUANTITY: (Code.INVALID_QUANTITY, "Incorrect quantity"),
    Reason.QUANTITY_LOW: (Code.INVALID_QUANTITY, "Quantity less than minimal {}"),
    Reason.QUANTITY_HIGH: (Code.INVALID_QUANTITY, "Quantity more than maximum {}"),
}
_OTHERWISE = (Code.ORDER_REFUSED, "The order was refused")


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when a request may ask a panel (``ask``) and write the outcome down (``record``), in epoch µs."""

    ask: int

    @property
    def record(self) -> int:
        """The end of all store calls."""
        return self.ask + RECORD_TIME


@dataclass(frozen=True, slots=True)
class Receipt:
    """An order was taken: ``charged`` in micro-USD; ``pending`` when it is not known yet whether it was placed."""

    order: int
    charged: int
    pending: bool
    replayed: bool = False


class Purchase:
    """One accepted order on its way; holds the order's attempt, and records what comes of it."""

    def __init__(self, orders: Orders, caller: Caller, order: Order, deadline: Deadline) -> None:
        """Take an order that was just accepted."""
        self._orders = orders
        self._caller = caller
        self._order = order
        self._deadline = deadline

    def make(self, provider: Provider) -> Receipt:
        """Send the order as it was recorded, and record the outcome.

        Raises:
            Refusal: nothing was bought, and the money is back.
        """
        order = self._order
        quantity = order.quantity if sends_quantity(order.type) else None
        call = PlaceOrder(order.service, order.link, quantity, order.runs, order.interval, order.extra)
        send_by = order.attempt.send_by
        window = Window(slot_by=send_by, send_by=send_by, deadline=self._deadline.ask)
        try:
            answer = self._caller.ask(provider, call, window, before=self._start)
        except (Unavailable, NeverSent, StoreBusy) as error:  # StoreBusy: a second attempt could not be noted
            return self._not_sent(error)
        except (AnswerLost, UnreadableReply) as error:
            return self._unknown(f"{type(error).__name__}: {error}")
        match answer:
            case Placed():
                return self._placed(answer)
            case Refused():
                return self._refused(answer)
            case _:
                return self._unknown(f"an answer of the wrong kind: {type(answer).__name__}")

    def _start(self, key: ProviderKey, number: int) -> None:
        """Note which key version is used; a second try is a new attempt."""
        attempt = replace(self._order.attempt, key_version=key.version)
        if number == 1:
            self._order = replace(self._order, attempt=attempt)
            return
        attempt = replace(attempt, token=secrets.token_hex(16))
        current = self._orders.reattempt(self._order, attempt, until=attempt.send_by)
        if current is None:
            raise AnswerLost("the order was settled meanwhile")
        self._order = current

    def _placed(self, placed: Placed) -> Receipt:
        order = self._order
        if placed.warning:
            logger.error("odd receipt", extra={"facts": self._facts(placed.warning, provider_order=placed.order)})
        if placed.pending:
            return self._unknown("the provider confirms later", provider_order=placed.order)
        try:
            if self._orders.place(order, placed, until=self._deadline.record):
                return Receipt(order.id, order.charge, pending=False)
            cause = "the order was settled meanwhile"
        except AlreadyBound:
            return self._unknown(f"the provider named its order {placed.order}, which belongs to another order")
        except StoreBusy as error:
            cause = str(error)
        # Bought, and not written down: the settlement finds it by its evidence. This line is evidence too.
        logger.error("purchase not recorded", extra={"facts": self._facts(cause, provider_order=placed.order)})
        return Receipt(order.id, order.charge, pending=True)

    def _refused(self, refused: Refused) -> Receipt:
        order, text = self._order, refused.text[:KEPT_EVIDENCE]
        logger.warning("order refused", extra={"facts": self._facts(text, reason=refused.reason)})
        if refused.reason in RETRY_AFTER:
            if not self._reject(None):
                return Receipt(order.id, order.charge, pending=True)
            raise try_later(RETRY_AFTER[refused.reason])
        code, message = _told(refused)
        if not self._reject({"code": code, "message": message, "text": text, "request_id": request_id.get()}):
            return Receipt(order.id, order.charge, pending=True)
        raise Refusal(code, message)

    def _not_sent(self, error: Unavailable | NeverSent | StoreBusy) -> Receipt:
        logger.warning("order not sent", extra={"facts": self._facts(str(error))})
        if not self._reject(None):
            return Receipt(self._order.id, self._order.charge, pending=True)
        raise try_later(getattr(error, "retry_after", 5))

    def _unknown(self, evidence: str, *, provider_order: int | None = None) -> Receipt:
        order, evidence = self._order, evidence[:KEPT_EVIDENCE]
        logger.error("outcome unknown", extra={"facts": self._facts(evidence)})
        try:
            self._caller.clock.require(self._deadline.record)
            self._orders.lose(order, evidence, until=self._deadline.record, provider_order=provider_order)
        except StoreBusy as error:
            # The order stays SENDING, and the sweeper will call it unknown.
            logger.warning("unknown outcome not recorded", extra={"facts": self._facts(str(error))})
        return Receipt(order.id, order.charge, pending=True)

    def _reject(self, refusal: Mapping[str, str] | None) -> bool:
        """Give the money back; False when that could not be written, and the order stays to be settled."""
        try:
            return self._orders.reject(self._order, refusal, until=self._deadline.record)
        except StoreBusy as error:
            logger.error("refusal not recorded", extra={"facts": self._facts(str(error))})
            return False

    def _facts(self, cause: str, **more: object) -> dict[str, object]:
        return {**self._order.facts, "cause": cause, **more}


def _told(refused: Refused) -> tuple[Code, str]:
    """Return what a caller is told of a panel's refusal, in the contract's words."""
    code, message = _PERMANENT.get(refused.reason, _OTHERWISE)
    if "{}" not in message:
        return code, message
    return (code, message.format(refused.bound)) if refused.bound is not None else _PERMANENT[Reason.QUANTITY]
