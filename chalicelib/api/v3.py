"""The JSON API's wording: exact numbers, HTTP statuses, codes, and times in RFC 3339."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_never

from chalicelib import money
from chalicelib.api.answers import Answer, Face, error_headers, to_json
from chalicelib.api.pages import first_page, service_row
from chalicelib.api.reading import Incoming, read_v3
from chalicelib.errors import Refusal
from chalicelib.gateway import Money, Offers, Progress, Result
from chalicelib.log import request_id
from chalicelib.ports import SECOND
from chalicelib.purchase import Receipt


def refuse(refusal: Refusal) -> Answer:
    """Word a refusal as ``{"error", "code", "request_id"}`` with the code's HTTP status."""
    body = {"error": refusal.message, "code": refusal.code.value, "request_id": request_id.get()}
    return Answer(refusal.status, to_json(body), error_headers(refusal))


def render(result: Result, incoming: Incoming) -> Answer:
    """Word a result."""
    match result:
        case Money():
            return Answer(200, to_json({"balance": result.amount, "currency": result.currency}))
        case Offers():
            return _services(result, incoming)
        case Receipt():
            return _receipt(result)
        case Progress():
            return Answer(200, to_json(_status(result)))
        case _:
            assert_never(result)


def _services(result: Offers, incoming: Incoming) -> Answer:
    etag = f'"{result.etag}"'
    if etag in (tag.strip().removeprefix("W/") for tag in incoming.headers.get("if-none-match", "").split(",")):
        return Answer(304, "", {"ETag": etag})
    page = first_page((offer.id, {**service_row(offer), **offer.service.extra}) for offer in result.offers)
    link = {} if page.next is None else {"Link": f'<?cursor={page.next}>; rel="next"'}
    return Answer(200, page.body, {"ETag": etag, **link})


def _receipt(receipt: Receipt) -> Answer:
    body: dict[str, Any] = {"order": receipt.order, "charged": money.amount(receipt.charged)}
    headers = {"Idempotent-Replayed": "true"} if receipt.replayed else {}
    if receipt.pending:
        return Answer(202, to_json({**body, "pending_confirmation": True}), headers)
    return Answer(200, to_json(body), headers)


def _status(progress: Progress) -> Mapping[str, Any]:
    return {
        "order": progress.order.id,
        "status": progress.status.value,
        "start_count": progress.start_count,
        "remains": progress.remains,
        "charge": money.amount(progress.order.charge),
        "currency": "USD",
        "updated_at": _time(progress.updated),
        "stale": progress.stale,
    }


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


V3 = Face(read_v3, render, refuse, cors=True)
