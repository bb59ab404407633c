"""The classic protocol's wording: HTTP 200 for nearly everything, strings for numbers, one sentence an error."""

from collections.abc import Mapping
from typing import assert_never

from chalicelib import money
from chalicelib.api.answers import Answer, Face, error_headers, to_json
from chalicelib.api.pages import first_page, service_row
from chalicelib.api.reading import Incoming, read_v2
from chalicelib.errors import Code, Refusal
from chalicelib.gateway import Money, Offers, Progress, Result
from chalicelib.log import logger
from chalicelib.model import OrderStatus
from chalicelib.purchase import Receipt

_INCORRECT_REQUEST = "Incorrect request"
_TRY_LATER = "Service temporarily unavailable"
# The contract's table of section 3. What is not here is the code's own sentence; see `_sentence`.
_SENTENCES: Mapping[Code, str] = {
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
_STATUSES: Mapping[OrderStatus, str] = {
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


def _sentence(refusal: Refusal) -> str:
    if refusal.code is Code.INVALID_QUANTITY:
        return refusal.message  # it is one of the protocol's three sentences already
    if refusal.code is Code.MISSING_FIELD and refusal.field == "link":
        return _SENTENCES[Code.INVALID_LINK]
    return _SENTENCES[refusal.code]


def refuse(refusal: Refusal) -> Answer:
    """Word a refusal: an object whose only key is ``error``, at HTTP 200 unless the tenant's own limit is reached."""
    status = 429 if refusal.code is Code.RATE_LIMITED else 200
    return Answer(status, to_json({"error": _sentence(refusal)}), error_headers(refusal))


def render(result: Result, _incoming: Incoming) -> Answer:
    """Word a result."""
    match result:
        case Money():
            return Answer(200, to_json({"balance": format(result.amount, "f"), "currency": result.currency}))
        case Offers():
            return _services(result)
        case Receipt():
            headers = {"Idempotent-Replayed": "true"} if result.replayed else {}
            return Answer(200, to_json({"order": result.order}), headers)
        case Progress():
            return Answer(200, to_json(_status(result)))
        case _:
            assert_never(result)


def _services(result: Offers) -> Answer:
    page = first_page((offer.id, service_row(offer)) for offer in result.offers)
    if page.next is not None:  # the protocol knows no pages
        logger.error("services left out", extra={"facts": {"from": page.next, "of": len(result.offers)}})
    return Answer(200, page.body)


def _status(progress: Progress) -> dict[str, str]:
    order = progress.order
    total = order.quantity * (order.runs or 1)
    return {
        "charge": money.text(order.charge),
        "start_count": str(progress.start_count or 0),
        "status": _STATUSES[progress.status],
        "remains": str(total if progress.remains is None else progress.remains),
        "currency": "USD",
    }


V2 = Face(read_v2, render, refuse, cors=False)
