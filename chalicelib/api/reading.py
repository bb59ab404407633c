"""From HTTP to fields: one request, read once, in whatever encoding its client speaks.

Chalice's own parsing is passed by: it accepts NaN and duplicate keys, makes floats of decimals and answers 500 to
deep nesting (reliability.md 4.7). Its ``current_request`` belongs to the process, so it is read once, here.
"""

import io
import time
from collections.abc import Mapping
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

from chalicelib.commands import check_idempotency_key
from chalicelib.errors import Code, Refusal

MAX_BODY = 256 * 1024
# Numbers beyond this many digits, or with an exponent that would write out so many, are no count and no money.
_MAX_DIGITS = 40
# A drip-feed form with lists has about 30 fields; repeated fields of a batch come to 100.
_MAX_PAIRS = 200


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


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a request holds: the key as given, empty if there is none, and the fields without it."""

    key: str = field(repr=False)
    fields: Mapping[str, Any]


def read_v2(incoming: Incoming) -> Envelope:
    """Read a request of the classic protocol: form, JSON, multipart or query, with the key in any of four places.

    Raises:
        Refusal: `invalid_request`, `too_large` or `unsupported_media_type`.
    """
    _check_size(incoming)
    fields = {**dict(incoming.query), **_body_fields(incoming)}
    return _envelope(incoming, fields)


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
    header = incoming.headers.get("idempotency-key")
    if header is not None:
        check_idempotency_key(header)
        if fields.get("idempotency_key", header) != header:
            raise Refusal(Code.INVALID_REQUEST, "The Idempotency-Key header and the field idempotency_key differ")
        fields["idempotency_key"] = header
    return Envelope(given if isinstance(given, str) else "", fields)


def _header_key(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _check_size(incoming: Incoming) -> None:
    if len(incoming.body) > MAX_BODY:
        raise Refusal(Code.TOO_LARGE, f"A request's body holds at most {MAX_BODY // 1024} KiB")


def _body_fields(incoming: Incoming) -> dict[str, Any]:
    if not incoming.body.strip():
        return {}
    media_type = incoming.media_type
    if not media_type:  # some clients name no type; JSON objects and forms cannot be mistaken for one another
        media_type = "application/json" if incoming.body.lstrip()[:1] == b"{" else "application/x-www-form-urlencoded"
    match media_type:
        case "application/json":
            return parse_json(incoming.body)
        case "application/x-www-form-urlencoded":
            return _parse_form(incoming.body)
        case "multipart/form-data":
            return _parse_multipart(incoming.headers["content-type"], incoming.body)
        case _:
            raise Refusal(Code.UNSUPPORTED_MEDIA_TYPE, "Send the request as a form, as multipart or as JSON")


def _parse_form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(_utf8(body), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PAIRS)
    except ValueError:  # not UTF-8 under the percent signs, or too many fields
        raise Refusal(Code.INVALID_REQUEST, f"The form is not UTF-8 or has more than {_MAX_PAIRS} fields") from None
    return dict(pairs)


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
        return {part.name: _utf8(part.raw) for part in parser if part.name}
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
