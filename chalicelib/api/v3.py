"""The JSON API's wording: exact numbers, HTTP statuses, codes, and times in RFC 3339."""

from collections.abc import Collection, Mapping
from typing import Any, assert_never

from chalicelib import money
from chalicelib.actions import Action
from chalicelib.api.answers import Answer, Face, error_headers, to_json
from chalicelib.api.pages import first_page, service_row
from chalicelib.api.reading import Incoming, read_v3
from chalicelib.clock import rfc3339
from chalicelib.errors import Refusal
from chalicelib.fields import known_id
from chalicelib.gateway import History, Money, Result
from chalicelib.issuing import Issued
from chalicelib.log import request_id
from chalicelib.offering import Offers
from chalicelib.order_types import SUBSCRIPTIONS
from chalicelib.purchase import Receipt
from chalicelib.results import Batch, Canceling, Progress, Refilled, RefillProgress, Told
from chalicelib.session import Session

# What only those may see who may see prices (contract 4).
_PRICES = frozenset({"balance", "charge", "charged", "rate"})


def refuse(refusal: Refusal) -> Answer:
    """Word a refusal as ``{"error", "code", "request_id"}`` with the code's HTTP status."""
    named = refusal.request_id or request_id.get()
    body = {"error": refusal.message, "code": refusal.code.value, "request_id": named}
    return Answer(refusal.status, to_json(body), error_headers(refusal))


def render(result: Result, incoming: Incoming, session: Session) -> Answer:
    """Word a result."""
    hidden = frozenset() if session.sees_prices else _PRICES
    match result:
        case Offers():
            return _services(result, incoming, hidden)
        case Receipt():
            return _receipt(result, hidden)
        case _:
            return Answer(200, to_json(_without(hidden, _body(result))))


def _without(hidden: Collection[str], value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return an answer without the fields that its reader may not see, wherever they stand."""
    if not hidden:
        return value
    if isinstance(value, list):
        return [_without(hidden, inner) for inner in value]
    if isinstance(value, dict):
        return {name: _without(hidden, inner) for name, inner in value.items() if name not in hidden}
    return value


def _body(result: Money | Batch | History | Issued | Told) -> Mapping[str, Any]:
    match result:
        case Money():
            return {"balance": result.amount, "currency": result.currency}
        case Batch():
            return _batch(result)
        case History():
            return {"orders": [_listed(one) for one in result.orders], "next": result.next}
        case Issued():
            return {"token": result.token, "expires_at": rfc3339(result.expires)}
        case _:
            return _one(result)


def _one(told: Told) -> Mapping[str, Any]:
    match told:
        case Progress():
            return _status(told)
        case Refilled():
            return {"order": told.order, "refill": told.refill, "success": "Refill request accepted."}
        case RefillProgress():
            return {"refill": told.refill, "status": told.status.value}
        case Canceling():
            return {"order": told.order, "success": "Cancellation request accepted."}
        case _:
            assert_never(told)


def _batch(batch: Batch) -> Mapping[str, Any]:
    name = "refill" if batch.action is Action.REFILL_STATUS else "order"
    rows = [
        {name: known_id(target) or target, "error": told.message, "code": told.code.value}
        if isinstance(told, Refusal)
        else _one(told)
        for target, told in batch.items.items()
    ]
    return {f"{name}s": rows}


def _services(result: Offers, incoming: Incoming, hidden: Collection[str]) -> Answer:
    etag = f'"{result.etag}"'
    if incoming.has(etag):
        return Answer(304, "", {"ETag": etag})
    rows = ((offer.id, {**service_row(offer), **offer.service.extra}) for offer in result.offers)
    page = first_page((number, _without(hidden, row)) for number, row in rows)
    link = {} if page.next is None else {"Link": f'<?cursor={page.next}>; rel="next"'}
    return Answer(200, page.body, {"ETag": etag, **link})


def _receipt(receipt: Receipt, hidden: Collection[str]) -> Answer:
    body = _without(hidden, {"order": receipt.order, "charged": money.amount(receipt.charged)})
    headers = {"Idempotent-Replayed": "true"} if receipt.replayed else {}
    if receipt.pending:
        return Answer(202, to_json({**body, "pending_confirmation": True}), headers)
    return Answer(200, to_json(body), headers)


def _status(progress: Progress) -> Mapping[str, Any]:
    return {
        "order": progress.order.id,
        "status": progress.ordinary_status.value,
        "start_count": progress.start_count,
        "remains": progress.remains,
        "charge": money.amount(progress.charge),
        "currency": "USD",
        "updated_at": rfc3339(progress.updated),
        "stale": progress.stale,
        **({"orders": list(progress.order.children.values())} if progress.order.type == SUBSCRIPTIONS else {}),
    }


def _listed(progress: Progress) -> Mapping[str, Any]:
    order = progress.order
    return {
        **_status(progress),
        "service": order.public_service,
        "link": order.link,
        "quantity": order.quantity,
        "created_at": rfc3339(order.created),
        "idempotency_key": order.idempotency_key,
    }


V3 = Face(read_v3, render, refuse, cors=True, actions=frozenset(Action))
