"""How a call is written: the protocol's own field names, and the encodings that panels take."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from chalicelib.actions import BatchCall, Call, GetRefill, GetRefills, PlaceOrder, RequestCancel
from chalicelib.panels.dialect import Request, action_of, ids_of

Fields = Mapping[str, str | int]
_NOTHING: Mapping[str, str] = MappingProxyType({})

# What `add` itself decides (protocol.md 1.3), and the names under which some dialect carries the key.
_OWN = ("action", "service", "link", "quantity", "runs", "interval")
_KEYS = ("key", "api_token")
_IDS = ("order", "orders", "refill", "refills")


def fields(call: Call, names: Mapping[str, str] = _NOTHING, words: Mapping[str, str] = _NOTHING) -> Fields:
    """Return the fields that ask ``call`` in the protocol's words (protocol.md 1.2), all but the key.

    Args:
        call: what to ask.
        names: the panel's names of fields, where they are not the protocol's.
        words: its words for actions, likewise.
    """
    action = action_of(call).value
    asked = {"action": words.get(action, action), **(_order(call) if isinstance(call, PlaceOrder) else _ids(call))}
    own = {names.get(name, name): value for name, value in asked.items()}
    return {**own, **_extra(call, names)} if isinstance(call, PlaceOrder) else own


def _ids(call: Call) -> Fields:
    ids = ids_of(call)
    if not ids:
        return {}
    name = "refill" if isinstance(call, GetRefill | GetRefills) else "order"
    # The protocol cancels under the plural only, one order too.
    plural = isinstance(call, BatchCall | RequestCancel)
    return {f"{name}s" if plural else name: ",".join(map(str, ids)) if len(ids) > 1 else ids[0]}


def _order(call: PlaceOrder) -> Fields:
    own = {
        "service": call.service,
        "link": call.link,
        "quantity": call.quantity,
        "runs": call.runs,
        "interval": call.interval,
    }
    return {name: value for name, value in own.items() if value is not None}


def _extra(call: PlaceOrder, names: Mapping[str, str]) -> Fields:
    # What a caller adds never replaces what we decided, least of all the key; what we left out is decided as well.
    renamed = {name: target for name, target in names.items() if name not in _IDS}
    decided = {*_OWN, *_KEYS, *renamed.values()}
    return {
        renamed.get(name, name): value
        for name, value in call.extra.items()
        if name not in (_OWN if name in renamed else decided)
    }


def form(values: Fields, headers: Mapping[str, str] = _NOTHING) -> Request:
    """Return a form POST."""
    return _post(urlencode(values).encode(), "application/x-www-form-urlencoded", headers)


def document(values: Fields, headers: Mapping[str, str] = _NOTHING) -> Request:
    """Return a JSON POST; numbers stay numbers."""
    return _post(json.dumps(values).encode(), "application/json", headers)


def query(values: Fields, headers: Mapping[str, str] = _NOTHING) -> Request:
    """Return a GET that carries everything in the query string."""
    return Request(b"", {"Accept": "application/json", **headers}, method="GET", query=urlencode(values))


def _post(body: bytes, content_type: str, headers: Mapping[str, str]) -> Request:
    return Request(body, {"Content-Type": content_type, "Accept": "application/json", **headers})
