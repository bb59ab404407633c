"""How a call is written: the protocol's own field names, and the two encodings that panels take."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from chalicelib.actions import Action, Call, GetBalance, GetStatus, ListServices, PlaceOrder
from chalicelib.panels.dialect import Request

Fields = Mapping[str, str | int]
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def fields(call: Call) -> Fields:
    """Return the fields that ask ``call`` in the protocol's words (protocol.md 1.2), all but the key."""
    match call:
        case GetBalance():
            return {"action": Action.BALANCE.value}
        case ListServices():
            return {"action": Action.SERVICES.value}
        case PlaceOrder():
            return _order(call)
        case GetStatus():
            return {"action": Action.STATUS.value, "order": call.order}


def _order(call: PlaceOrder) -> Fields:
    own: dict[str, str | int] = {
        "action": Action.ADD.value,
        "service": call.service,
        "link": call.link,
        "quantity": call.quantity,
    }
    drip = {"runs": call.runs, "interval": call.interval}
    own.update({name: value for name, value in drip.items() if value is not None})
    # What a caller adds never replaces what we decided, least of all the key.
    return own | {name: value for name, value in call.extra.items() if name not in own and name != "key"}


def form(values: Fields, headers: Mapping[str, str] = _NO_HEADERS) -> Request:
    """Return a form POST."""
    return _post(urlencode(values).encode(), "application/x-www-form-urlencoded", headers)


def document(values: Fields, headers: Mapping[str, str] = _NO_HEADERS) -> Request:
    """Return a JSON POST; numbers stay numbers."""
    return _post(json.dumps(values).encode(), "application/json", headers)


def _post(body: bytes, content_type: str, headers: Mapping[str, str]) -> Request:
    return Request(body, {"Content-Type": content_type, "Accept": "application/json", **headers})
