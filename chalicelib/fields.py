"""What a field of a request may hold, in whatever way its client wrote it, and what comes of it.

Each type is a validator that reads numbers and text alike, and the JSON Schema by which the OpenAPI document tells
what it takes.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from chalicelib.actions import GRANTABLE, Action
from chalicelib.model import MAX_ID, OrderStatus

MAX_LINK = 2048
MAX_KEY = 255
MAX_IDS = 100
_DIGITS = re.compile(r"[0-9]{1,18}")
_AMOUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
# C0 without tab, CR and LF (lists are sent by lines), DEL and C1; surrogates cannot be encoded at all.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_END = re.compile(r"[\r\n]")
_NAME_END = re.compile(r"[\r\n,]")
# Ids hold none of these, so whatever a client puts between them can be told from them.
_ID_END = re.compile(r"[\s,;|]")
# `orders[0][]=1` is a list in a list.
_NESTED_IDS = 2
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# In µs; no order is older than the epoch or younger than this.
_LAST_MOMENT = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
# pydantic wants a name for each kind of error; ours differ by their sentence alone.
WRONG: Final = "wrong"


def _whole_number(value: object) -> object:
    """Clients send numbers as numbers or as text; JSON may write 100 as 100.0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and 0 <= value < 10**18:
        return value
    if isinstance(value, Decimal) and 0 <= value < 10**18 and value == value.to_integral_value():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    raise PydanticCustomError(WRONG, "a whole number is needed")


def _optional_number(value: object) -> object:
    """Panel scripts send every field of their form, empty or 0 where it does not apply."""
    return None if value is None or value == "" else _whole_number(value) or None


def is_given(value: object) -> bool:
    """Say whether a field holds anything: panel scripts send their whole form, blank where a field does not apply."""
    return bool(value.strip()) if isinstance(value, str) else value is not None


def as_text(value: object) -> str:
    """JSON clients may write a name or a code as a number."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _digits(value)
    if not isinstance(value, str):
        raise PydanticCustomError(WRONG, "text or a number is needed")
    if _CONTROL.search(value):
        raise PydanticCustomError(WRONG, "it holds control characters")
    return value


def _scalar(value: object) -> object:
    """What travels on is text to every panel."""
    return ("1" if value else "0") if isinstance(value, bool) else as_text(value)


def _word(value: object) -> object:
    """A field of blanks alone is not given."""
    return as_text(value).strip() or None


def _lines(value: object) -> object:
    """Return a list as panels want it, one entry a line; blank lines do not count (contract 4)."""
    parts = value if isinstance(value, list) else [value]
    return "\n".join(line for part in parts for line in _split(as_text(part), _LINE_END)) or None


def _names(value: object) -> object:
    """Return a list of user names, which some clients separate by commas; no name holds one."""
    parts = value if isinstance(value, list) else [value]
    return "\n".join(name for part in parts for name in _split(as_text(part), _NAME_END)) or None


def _split(text: str, end: re.Pattern[str]) -> Iterator[str]:
    return (part for piece in end.split(text) if (part := piece.strip()))


def _idempotency_key(value: str) -> str:
    """Contract 5."""
    if not (1 <= len(value) <= MAX_KEY and value.isascii() and value.isprintable()):
        raise PydanticCustomError(WRONG, "1 to 255 printable ASCII characters are needed")
    return value


def _moment(value: object) -> object:
    """Return a time of RFC 3339 in epoch µs."""
    try:
        at = datetime.fromisoformat(value.upper()) if isinstance(value, str) and _RFC_3339.fullmatch(value) else None
    except ValueError:  # the 31st of February
        at = None
    if at is None:
        raise PydanticCustomError(WRONG, "a time such as 2026-01-31T12:00:00Z is needed")
    return min(max(0, (at - _EPOCH) // timedelta(microseconds=1)), _LAST_MOMENT)


def _one_id(value: object) -> object:
    """Return an id as its caller wrote it. What cannot be one of ours is not found, rather than wrong."""
    text = _id_text(value).strip()
    return (str(known_id(text) or text),)


def _id_text(value: object) -> str:
    """JSON may write 100 as 100.0."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return str(int(value))
    if isinstance(value, bool | Decimal) or not isinstance(value, int | str):
        raise PydanticCustomError(WRONG, "ids are needed here")
    return str(value)


def _many_ids(value: object) -> object:
    """Return a list of ids as text, each once: comma text, a JSON list, or that list as text; spaces do no harm."""
    found: dict[int | str, str] = {}
    for text in _id_texts(value, _NESTED_IDS):
        number = known_id(text)
        found.setdefault(number or text, str(number) if number else text)
    if len(found) > MAX_IDS:
        raise PydanticCustomError(WRONG, "a list holds at most 100 ids")
    return tuple(found.values()) or None


def _id_texts(value: object, deep: int) -> Iterator[str]:
    if isinstance(value, list | dict) and deep:  # PHP makes an object of a list with gaps
        for part in value.values() if isinstance(value, dict) else value:
            yield from _id_texts(part, deep - 1)
    elif value is not None:
        yield from (text for part in _ID_END.split(_id_text(value)) if (text := part.strip("[]\"' ")))


def known_id(text: str) -> int | None:
    """Return the id of an order or a refill, None if no such id was ever given (contract 7)."""
    return int(text) if _DIGITS.fullmatch(text) and 0 < int(text) <= MAX_ID else None


def _amount(value: object) -> object:
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        value = _digits(value)
    if isinstance(value, str) and _AMOUNT.fullmatch(value):
        return Decimal(value)
    raise PydanticCustomError(WRONG, "an amount such as 5.85 is needed")


def _digits(value: Decimal | int) -> str:
    return format(Decimal(value), "f")


def _granted(value: object) -> object:
    """Return the actions that a browser token is to have, each once."""
    if not isinstance(value, list) or not value or not all(name in GRANTABLE for name in value):
        raise PydanticCustomError(WRONG, f"a list of these is needed: {', '.join(GRANTABLE)}")
    return tuple(dict.fromkeys(map(Action, value)))


def _service_ids(value: object) -> object:
    """Return the services that a browser token may order, each once."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_IDS:
        raise PydanticCustomError(WRONG, "a list of 1 to 100 services' ids is needed")
    return tuple(dict.fromkeys(map(_json_number, value)))


def _json_number(value: object) -> object:
    """Numbers of fields that have no form in the classic protocol are numbers."""
    if isinstance(value, bool | str):
        raise PydanticCustomError(WRONG, "a whole number is needed")
    return _whole_number(value)


# What the validators take, as the OpenAPI document tells it.
_WHOLE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**18},
            {"type": "string", "pattern": "^ *[0-9]{1,18} *$"},
        ]
    }
)
_AMOUNT_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "exclusiveMaximum": 10**12},
            {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,12})?$"},
        ]
    }
)
_LINK_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_LINK,
                "pattern": r"^([Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+([/?#]\S*)?|@?[A-Za-z0-9._-]+|[^\s/?#@:]+(:[0-9]{1,5})?/\S*)$",
            },
            {"const": 0},
        ]
    }
)
_KEY_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"}, {"type": "number"}]}
)
_ID_SCHEMA = {"type": ["integer", "string"]}
_IDS_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "array", "items": _ID_SCHEMA, "maxItems": MAX_IDS},
            {"type": "object", "additionalProperties": _ID_SCHEMA, "maxProperties": MAX_IDS},
            {"type": "integer"},
            {"type": "string", "pattern": r"[^\s,\[\]\"']"},
        ]
    }
)
_LIST_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": ["string", "number"]}, {"type": "array", "items": {"type": ["string", "number"]}}]}
)

WholeNumber = Annotated[int, BeforeValidator(_whole_number), Field(strict=True), _WHOLE_SCHEMA]
OptionalNumber = Annotated[Annotated[int, Field(strict=True)] | None, BeforeValidator(_optional_number), _WHOLE_SCHEMA]
Amount = Annotated[Decimal, BeforeValidator(_amount), _AMOUNT_SCHEMA]
Link = Annotated[str, _LINK_SCHEMA]
IdempotencyKey = Annotated[str, BeforeValidator(as_text), AfterValidator(_idempotency_key), _KEY_SCHEMA]
Word = Annotated[str | None, BeforeValidator(_word), WithJsonSchema({"type": ["string", "number"]})]
Lines = Annotated[str | None, BeforeValidator(_lines), _LIST_SCHEMA]
Names = Annotated[str | None, BeforeValidator(_names), _LIST_SCHEMA]
Scalar = Annotated[str, BeforeValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})]
Moment = Annotated[
    int,
    BeforeValidator(_moment),
    Field(strict=True),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_RFC_3339.pattern}$"}),
]
ListedStatus = Literal[
    OrderStatus.QUEUED,
    OrderStatus.PENDING,
    OrderStatus.IN_PROGRESS,
    OrderStatus.PROCESSING,
    OrderStatus.COMPLETED,
    OrderStatus.PARTIAL,
    OrderStatus.CANCELED,
    OrderStatus.REFUNDED,
    OrderStatus.UNKNOWN,
]
PageSize = Annotated[
    int,
    BeforeValidator(_whole_number),
    Field(strict=True, ge=1, le=100),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 100},
                {"type": "string", "pattern": "^ *0{0,15}([1-9][0-9]?|100) *$"},
            ]
        }
    ),
]
OneId = Annotated[tuple[str, ...], BeforeValidator(_one_id), WithJsonSchema(_ID_SCHEMA)]
ManyIds = Annotated[tuple[str, ...] | None, BeforeValidator(_many_ids), _IDS_SCHEMA]
# How long a browser token may live, in seconds.
TokenLife = Annotated[
    int,
    BeforeValidator(_json_number),
    Field(strict=True, ge=1, le=3600),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 3600}),
]
GrantedActions = Annotated[
    tuple[Action, ...],
    BeforeValidator(_granted),
    WithJsonSchema({"type": "array", "items": {"enum": list(GRANTABLE)}, "minItems": 1}),
]
ServiceIds = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=MAX_ID)], ...],
    BeforeValidator(_service_ids),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": MAX_ID},
            "minItems": 1,
            "maxItems": MAX_IDS,
        }
    ),
]
Origin = Annotated[str, Field(strict=True, min_length=1, max_length=300)]
# Whatever a tenant calls its own customers by: a number, a UUID, an address.
Subject = Annotated[str, Field(strict=True, pattern=r"^[!-~]{1,128}$")]
Flag = Annotated[bool, Field(strict=True)]
