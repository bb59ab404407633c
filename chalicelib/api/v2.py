"""The classic protocol's wording: HTTP 200 for nearly everything, strings for numbers, one sentence an error."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never

from chalicelib import money
from chalicelib.actions import CLASSIC_ACTIONS, Action
from chalicelib.api.answers import Answer, Face, error_headers, to_json
from chalicelib.api.pages import first_page, service_row
from chalicelib.api.reading import Incoming, read_v2
from chalicelib.errors import Code, Refusal
from chalicelib.fields import known_id
from chalicelib.gateway import History, Money, Result
from chalicelib.issuing import Issued
from chalicelib.log import logger
from chalicelib.model import OrderStatus, RefillStatus
from chalicelib.offering import Offers
from chalicelib.order_types import SUBSCRIPTIONS
from chalicelib.purchase import Receipt
from chalicelib.results import Batch, Canceling, Progress, Refilled, RefillProgress, Told
from chalicelib.session import Session

_INCORRECT_REQUEST = "Incorrect request"
_TRY_LATER = "Service temporarily unavailable"
# The contract's table of section 3. What is not here is the code's own sentence; see `_sentence`.
SENTENCES: Mapping[Code, str] = {
    Code.INVALID_API_KEY: "Invalid API key",
    Code.FORBIDDEN: "Invalid API key",
    Code.INVALID_REQUEST: _INCORRECT_REQUEST,
    Code.MISSING_FIELD: _INCORRECT_REQUEST,
    Code.TOO_LARGE: _INCORRECT_REQUEST,
    Code.UNSUPPORTED_MEDIA_TYPE: _INCORRECT_REQUEST,
    Code.NOT_SUPPORTED: _INCORRECT_REQUEST,
    Code.IDEMPOTENCY_KEY_REUSED: _INCORRECT_REQUEST,
    Code.REQUEST_IN_PROGRESS: _INCORRECT_REQUEST,
    Code.UNKNOWN_ACTION: "Incorrect action",
    Code.SERVICE_NOT_FOUND: "Incorrect service ID",
    Code.ORDER_NOT_FOUND: "Incorrect order ID",
    Code.REFILL_NOT_FOUND: "Refill not found",
    Code.INVALID_LINK: "Incorrect link",
    Code.INSUFFICIENT_FUNDS: "Not enough funds on balance",
    Code.SPEND_LIMIT_REACHED: "Not enough funds on balance",
    Code.DUPLICATE_LINK: "You have active order with this link. Please wait until order being completed.",
    Code.ORDER_REFUSED: _TRY_LATER,
    Code.PRICE_CHANGED: _TRY_LATER,
    Code.SERVICE_UNAVAILABLE: _TRY_LATER,
    Code.INTERNAL: _TRY_LATER,
    Code.RATE_LIMITED: "Too many requests",
}
# Panel scripts know these spellings only, and take any other for Pending, for ever (protocol.md 1.5).
STATUSES: Mapping[OrderStatus, str] = {
    OrderStatus.QUEUED: "Pending",
    OrderStatus.PENDING: "Pending",
    OrderStatus.UNKNOWN: "Pending",
    OrderStatus.IN_PROGRESS: "In progress",
    OrderStatus.PROCESSING: "Processing",
    OrderStatus.COMPLETED: "Completed",
    OrderStatus.PARTIAL: "Partial",
    OrderStatus.CANCELED: "Canceled",
    OrderStatus.REFUNDED: "Refunded",
}
# Of a subscription they know these (contract 3).
_SUBSCRIPTION_STATUSES: Mapping[OrderStatus, str] = {
    **dict.fromkeys(OrderStatus, "Active"),
    OrderStatus.PAUSED: "Paused",
    OrderStatus.COMPLETED: "Completed",
    OrderStatus.PARTIAL: "Completed",
    OrderStatus.EXPIRED: "Expired",
    OrderStatus.CANCELED: "Canceled",
    OrderStatus.FAILED: "Canceled",
    OrderStatus.REFUNDED: "Canceled",
}
# Nothing is known of a refill for which its panel gave no id, and the protocol has no word for that.
_REFILL_STATUSES: Mapping[RefillStatus, str] = {
    RefillStatus.PENDING: "Pending",
    RefillStatus.IN_PROGRESS: "In progress",
    RefillStatus.COMPLETED: "Completed",
    RefillStatus.REJECTED: "Rejected",
    RefillStatus.UNKNOWN: "Pending",
}


def _sentence(refusal: Refusal) -> str:
    if refusal.code is Code.INVALID_QUANTITY:
        return refusal.message  # it is one of the protocol's three sentences already
    if refusal.code is Code.MISSING_FIELD and refusal.field == "link":
        return SENTENCES[Code.INVALID_LINK]
    return refusal.classic or SENTENCES[refusal.code]


def refuse(refusal: Refusal) -> Answer:
    """Word a refusal: an object whose only key is ``error``, at HTTP 200 unless the tenant's own limit is reached."""
    status = 429 if refusal.code is Code.RATE_LIMITED else 200
    return Answer(status, to_json(_error(refusal)), error_headers(refusal))


def render(result: Result, _incoming: Incoming, _session: Session) -> Answer:
    """Word a result."""
    match result:
        case Money():
            return Answer(200, to_json({"balance": format(result.amount, "f"), "currency": result.currency}))
        case Offers():
            return _services(result)
        case Receipt():
            headers = {"Idempotent-Replayed": "true"} if result.replayed else {}
            return Answer(200, to_json({"order": result.order}), headers)
        case Batch():
            return Answer(200, to_json(_batch(result)))
        case History() | Issued():
            raise Refusal(Code.UNKNOWN_ACTION, "The classic protocol has no such action")
        case _:
            return Answer(200, to_json(_one(result)))


def _one(told: Told) -> object:
    match told:
        case Progress():
            return _status(told)
        case Refilled():
            return {"refill": str(told.refill)}  # one is text, one of several is a number (protocol.md 1.2)
        case RefillProgress():
            return {"status": _REFILL_STATUSES[told.status]}
        case Canceling():
            return [{"order": told.order, "cancel": 1}]  # an array also for one (contract 3)
        case _:
            assert_never(told)


def _batch(batch: Batch) -> object:
    """Word several answers: an object for statuses and arrays for the rest, each error in its own place."""
    if batch.action is Action.STATUS:
        return {
            target: _error(told) if isinstance(told, Refusal) else _one(told) for target, told in batch.items.items()
        }
    name, result = _ROWS[batch.action]
    return [{name: known_id(target) or target, result: _cell(told)} for target, told in batch.items.items()]


# How an array's rows call what was asked for, and its answer.
_ROWS: Mapping[Action, tuple[str, str]] = MappingProxyType(
    {
        Action.REFILL: ("order", "refill"),
        Action.REFILL_STATUS: ("refill", "status"),
        Action.CANCEL: ("order", "cancel"),
    }
)


def _cell(told: Told | Refusal) -> object:
    match told:
        case Refusal():
            return _error(told)
        case Refilled():
            return told.refill
        case RefillProgress():
            return _REFILL_STATUSES[told.status]
        case _:
            return 1


def _error(refusal: Refusal) -> Mapping[str, str]:
    return {"error": _sentence(refusal)}


def _services(result: Offers) -> Answer:
    page = first_page((offer.id, service_row(offer)) for offer in result.offers)
    if page.next is not None:  # the protocol knows no pages
        logger.error("services left out", extra={"facts": {"from": page.next, "of": len(result.offers)}})
    return Answer(200, page.body)


def _status(progress: Progress) -> Mapping[str, Any]:
    order = progress.order
    if order.type == SUBSCRIPTIONS:
        return _subscription(progress)
    total = order.quantity * (order.runs or 1)
    return {
        "charge": money.text(progress.charge),
        "start_count": str(progress.start_count or 0),
        "status": STATUSES[progress.ordinary_status],
        "remains": str(total if progress.remains is None else progress.remains),
        "currency": "USD",
    }


def _subscription(progress: Progress) -> Mapping[str, Any]:
    """Word a subscription as the SmartPanel family does: its orders are polled one by one (protocol.md 1.5)."""
    order, reading = progress.order, progress.order.reading
    posts = reading.posts if reading and reading.posts is not None else len(order.children)
    return {
        "status": _SUBSCRIPTION_STATUSES[progress.status],
        "expiry": reading.expiry if reading else None,
        "posts": str(posts),
        "orders": list(order.children.values()),
    }


V2 = Face(read_v2, render, refuse, cors=False, actions=CLASSIC_ACTIONS)
