"""From HTTP to fields: one request, read once, in whatever encoding its client speaks.

Chalice's own parsing is passed by: it accepts NaN and duplicate keys, makes floats of decimals and answers 500 to
deep nesting (reliability.md 4.7). Its ``current_request`` belongs to the process, so it is read once, here.
"""

import io
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import simplejson
from chalice.app import Request
from multipart import (  # type: ignore[import-untyped] # it ships no types
    MultipartError,
    MultipartParser,
    parse_options_header,
)

from chalicelib.actions import Action
from chalicelib.errors import Code, Refusal

MAX_BODY = 256 * 1024
# Numbers beyond this many digits, or with an exponent that would write out so many, are no count and no money.
_MAX_DIGITS = 40
# A drip-feed form with lists has about 30 fields; repeated fields of a batch come to 100, those of comments to more.
_MAX_PAIRS = 10_000
# Repeated, these are lists; any other field that is repeated has its last value, as in PHP.
_LISTS = frozenset({"orders", "refills", "comments", "usernames", "hashtags", "keywords", "groups"})
# PHP's spelling of a list: `orders[]`, `orders[0]`, `orders[0][]`.
_INDEXED = re.compile(r"([^\[\]]+)(?:\[[^\[\]]*\])+")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Incoming:
    """One HTTP request.

    Header names are lower case; ``arrival`` and ``end`` in epoch µs (``end``: Lambda's own). ``gateway_id`` is API
    Gateway's id of it, for the log only.
    """

    method: str
    headers: Mapping[str, str]
    query: tuple[tuple[str, str], ...]
    body: bytes
    address: str
    arrival: int
    end: int
    gateway_id: str = ""

    @classmethod
    def of(cls, request: Request) -> "Incoming":
        """Read Chalice's request, once."""
        now = time.time_ns() // 1000
        context: Mapping[str, Any] = request.context
        # API Gateway's clock started its 29 s; ours may differ, but nothing arrives in the future.
        arrival = min(now, int(context.get("requestTimeEpoch") or now // 1000) * 1000)
        query = request.query_params
        body = request.raw_body
        context_object: Any = request.lambda_context
        return cls(
            method=request.method,
            headers={name.lower(): value for name, value in request.headers.items()},
            query=() if query is None else tuple((name, value) for name in query for value in query.getlist(name)),
            body=body.encode() if isinstance(body, str) else body,
            address=context.get("identity", {}).get("sourceIp", ""),
            arrival=arrival,
            end=now + context_object.get_remaining_time_in_millis() * 1000,
            gateway_id=context.get("requestId", ""),
        )

    @property
    def media_type(self) -> str:
        """The type of the body in lower case, without parameters; empty when the client names none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def has(self, etag: str) -> bool:
        """Say whether the caller names this entity tag, weak or not, as what it has already."""
        given = self.headers.get("if-none-match", "").split(",")
        return etag in {tag.strip().removeprefix("W/") for tag in given}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a request holds: the key as given, empty if there is none, the fields without it, and a header's key."""

    key: str = field(repr=False)
    fields: Mapping[str, Any]
    idempotency_key: str | None = None

    @property
    def keyed(self) -> Mapping[str, Any]:
        """The fields with the idempotency key of the header.

        Raises:
            Refusal: `invalid_request`: the header is empty, or says other than the field does.
        """
        if self.idempotency_key is None:
            return self.fields
        if not self.idempotency_key:
            raise Refusal(Code.INVALID_REQUEST, "The Idempotency-Key header is empty")
        given = self.fields.get("idempotency_key")
        if given not in (None, "") and str(given) != self.idempotency_key:
            raise Refusal(Code.INVALID_REQUEST, "The Idempotency-Key header and the field idempotency_key differ")
        return {**self.fields, "idempotency_key": self.idempotency_key}


def read_v2(incoming: Incoming) -> Envelope:
    """Read a request of the classic protocol: form, JSON, multipart or query, with the key in any of four places.

    Raises:
        Refusal: `invalid_request`, `too_large` or `unsupported_media_type`.
    """
    _check_size(incoming)
    query, body = _gathered(incoming.query), _body_fields(incoming)
    key = body.pop("key", None) or query.pop("key", None)
    return _envelope(incoming, _renamed({**query, **body, "key": key}))


def _gathered(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a request's fields; lists are repeated or indexed fields, as the clients of the protocol write them."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        indexed = _INDEXED.fullmatch(name)
        own = indexed[1] if indexed else name
        earlier = fields.get(own)
        if isinstance(earlier, list):
            earlier.append(value)
        elif indexed or (own in _LISTS and own in fields):
            fields[own] = [value] if earlier is None else [earlier, value]
        else:
            fields[own] = value
    return fields


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of two actions as we know them: clients also send their ids as ``order`` (contract 3)."""
    order = fields.get("order")
    if order in (None, ""):
        return fields
    others = {name: value for name, value in fields.items() if name != "order"}
    match fields.get("action"):
        case Action.CANCEL if fields.get("orders") in (None, ""):
            return {**others, "orders": order}
        case Action.REFILL_STATUS if not fields.get("refill") and not fields.get("refills"):
            several = isinstance(order, list) or (isinstance(order, str) and "," in order)
            return {**others, "refills" if several else "refill": order}
        case _:
            return fields


def read_v3(incoming: Incoming) -> Envelope:
    """Read a JSON request; a ``cursor`` may also stand in the query, as the Link header writes it.

    Raises:
        Refusal: `invalid_request`, `too_large` or `unsupported_media_type`.
    """
    _check_size(incoming)
    if incoming.media_type != "application/json":
        raise Refusal(Code.UNSUPPORTED_MEDIA_TYPE, "Send the request as application/json")
    cursor = {name: value for name, value in incoming.query if name == "cursor"}
    return _envelope(incoming, {**cursor, **parse_json(incoming.body)})


def _envelope(incoming: Incoming, fields: dict[str, Any]) -> Envelope:
    given = fields.pop("key", None) or _header_key(incoming.headers)
    return Envelope(given if isinstance(given, str) else "", fields, incoming.headers.get("idempotency-key"))


def _header_key(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return bearer or headers.get("x-api-key", "")


def _check_size(incoming: Incoming) -> None:
    if len(incoming.body) > MAX_BODY:
        raise Refusal(Code.TOO_LARGE, f"A request's body holds at most {MAX_BODY // 1024} KiB")


def _body_fields(incoming: Incoming) -> dict[str, Any]:
    body = incoming.body.removeprefix(_BOM)
    if not body.strip():
        return {}
    match incoming.media_type:
        case "application/json":
            return _gathered(parse_json(body).items())
        case "" | "text/plain" | "application/x-www-form-urlencoded":
            # Some clients name no type or their library's; a JSON object cannot be mistaken for a form.
            return _gathered(parse_json(body).items()) if body.lstrip()[:1] == b"{" else _parse_form(body)
        case "multipart/form-data":
            return _parse_multipart(incoming.headers["content-type"], body)
        case _:
            raise Refusal(Code.UNSUPPORTED_MEDIA_TYPE, "Send the request as a form, as multipart or as JSON")


def _parse_form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(_utf8(body), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PAIRS)
    except ValueError:  # not UTF-8 under the percent signs, or too many fields
        raise Refusal(Code.INVALID_REQUEST, f"The form is not UTF-8 or has more than {_MAX_PAIRS} fields") from None
    return _gathered(pairs)


def _parse_multipart(content_type: str, body: bytes) -> dict[str, Any]:
    _, options = parse_options_header(content_type)
    try:
        parser = MultipartParser(
            io.BytesIO(body),
            options.get("boundary", ""),
            content_length=len(body),
            part_limit=_MAX_PAIRS,
            memory_limit=2 * MAX_BODY,
            disk_limit=0,
            spool_limit=2 * MAX_BODY,
        )
        return _gathered((part.name, _utf8(part.raw)) for part in parser if part.name)
    except (MultipartError, ValueError):
        raise Refusal(Code.INVALID_REQUEST, "The multipart body is broken") from None


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refusal(Code.INVALID_REQUEST, "The request is not UTF-8") from None


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; its numbers are ints and Decimals.

    Raises:
        Refusal: `invalid_request`: not UTF-8, not JSON, not an object, a key twice, NaN, or numbers or nesting
            beyond all reason.
    """
    try:
        value = simplejson.loads(
            _utf8(body),
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise Refusal(Code.INVALID_REQUEST, "The JSON is nested too deeply") from None
    except ValueError:
        raise Refusal(Code.INVALID_REQUEST, "The body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Refusal(Code.INVALID_REQUEST, "The body must be a JSON object")
    return value


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text) if len(text) <= _MAX_DIGITS else None
    except InvalidOperation:  # an exponent beyond Decimal's own bounds
        value = None
    if value is None or abs(value.adjusted()) > _MAX_DIGITS:
        raise Refusal(Code.INVALID_REQUEST, "A number has too many digits")
    return value


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise Refusal(Code.INVALID_REQUEST, "A number has too many digits")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise Refusal(Code.INVALID_REQUEST, f"{name} is not valid JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Refusal(Code.INVALID_REQUEST, "A field stands in the JSON object twice")
    return value
