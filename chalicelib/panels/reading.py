"""Exact and tolerant readers of what panels send.

Every oddity that is known here is one that a public integration guards against (protocol.md 1.4-1.7). A reader never
guesses: what it cannot read exactly is ``None``, and a body that is no JSON after all raises ``UnreadableReply``
with a cause that quotes at most a short piece of the body. Binary floats never occur.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl

from chalicelib.errors import UnreadableReply
from chalicelib.model import OrderStatus, RefillStatus

# Panels keep ids in at most 64 bits, so a longer one is damage.
MAX_PANEL_ID = 10**19 - 1
# As many digits as Python itself converts; a longer number is an attack, not a figure.
_MAX_DIGITS = 4300
_QUOTED = 120

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_CONTROLS_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")


def plain(text: str, limit: int = 300) -> str:
    """Return a panel's text on one line, without control characters and no longer than ``limit``."""
    return " ".join(_CONTROLS.sub(" ", text[: 4 * limit]).split())[:limit]


# --- The body ------------------------------------------------------------------------------------------------

# Every included PHP file that was saved with a BOM puts another one in front of the JSON.
_BLANK = "\ufeff \t\r\n"
# PHP's own complaints, with `html_errors` on or off, come before the JSON when `display_errors` was left on.
_NOTICES = re.compile(
    r"(?:[\ufeff\s]*+(?:<br\s*/?>\s*)?(?:<b>)?(?:PHP\ )?(?:Notice|Warning|Deprecated|Strict\ Standards)(?:</b>)?:\s"
    r".{0,2000}?\son\ line\s+(?:<b>)?[0-9]+(?:</b>)?(?:\s*<br\s*/?>)?){0,100}",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
# A page's title stands near its beginning.
_HEAD = 10_000
_TITLE = re.compile(r"<title[^<>]*>([^<]{1,200})", re.IGNORECASE)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD]")


def document(body: bytes) -> object:
    """Return the JSON document in a reply's body, its fractions as ``Decimal``.

    A BOM and PHP notices before it are skipped; ``error=Invalid+API+key`` is read as the object that it means.

    Raises:
        UnreadableReply: the body is empty, not UTF-8, HTML, no JSON, or JSON that no honest panel sends: NaN or
            Infinity, a key twice, half a surrogate pair, nesting or numbers without end.
    """
    text = _text(body)
    if not text:
        raise UnreadableReply("an empty body")
    if text.startswith("<"):
        title = _TITLE.search(text, 0, _HEAD)
        raise UnreadableReply(f"an HTML page: {plain(title[1], _QUOTED)}" if title else "an HTML page")
    if text.startswith("error="):
        return _form(text)
    return _json(text)


def _text(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise UnreadableReply("a body that is not UTF-8") from None
    notices = _NOTICES.match(text)
    return text[notices.end() if notices else 0 :].strip(_BLANK)


def _form(text: str) -> Mapping[str, object]:
    try:
        return _unique(parse_qsl(text, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise UnreadableReply("a form of too many fields") from None


def _json(text: str) -> object:
    try:
        value = json.loads(text, parse_float=_fraction, parse_constant=_constant, object_pairs_hook=_unique)
        if _ESCAPED_SURROGATE.search(text):
            # Most are pairs, which make an emoji; half a pair cannot be encoded.
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except json.JSONDecodeError as error:
        quote = "" if text[0] in '{["' else f": {plain(text, _QUOTED)}"
        raise UnreadableReply(f"broken JSON ({error.msg} at {error.pos}){quote}") from None
    except UnicodeEncodeError:
        raise UnreadableReply("half a surrogate pair") from None
    except ValueError:
        raise UnreadableReply("a number of too many digits") from None
    except RecursionError:
        raise UnreadableReply("JSON nested too deep") from None
    return value


def _fraction(digits: str) -> Decimal:
    if len(digits) > _MAX_DIGITS:
        raise UnreadableReply("a number of too many digits")
    try:
        return Decimal(digits)
    except InvalidOperation:
        raise UnreadableReply("a number out of all bounds") from None


def _constant(name: str) -> object:
    raise UnreadableReply(f"{name} is not JSON")


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise UnreadableReply("an object with the same key twice")
    return result


def layers(value: object) -> Iterator[Mapping[str, object]]:
    """Yield the object and, after it, the one that is wrapped in its ``data`` (protocol.md 1.1)."""
    if isinstance(value, dict):
        yield value
        if isinstance(inner := value.get("data"), dict):
            yield inner


# --- Money ---------------------------------------------------------------------------------------------------


class Money(NamedTuple):
    """An amount, and the currency if the spelling itself names it."""

    amount: Decimal
    currency: str | None = None


# What a symbol says of the currency; several countries write `$` and `Rs`, so those say nothing.
_SYMBOLS: Mapping[str, str | None] = MappingProxyType(
    {
        "$": None,
        "US$": "USD",
        "R$": "BRL",
        "Rs": None,
        "Rs.": None,
        "€": "EUR",
        "£": "GBP",
        "₹": "INR",
        "₦": "NGN",
        "₺": "TRY",
        "₽": "RUB",
        "₱": "PHP",
        "₫": "VND",
        "¥": None,
    }
)
_AFFIX = "|".join([*map(re.escape, sorted(_SYMBOLS, key=len, reverse=True)), "[A-Z]{3,4}"])
_MONEY = re.compile(
    rf"(?P<minus>-?)\s*(?P<before>{_AFFIX})?\s*(?P<sign>-?)(?P<number>[0-9.,]+(?:[eE][-+]?[0-9]{{1,2}})?)"
    rf"\s*(?P<after>{_AFFIX})?"
)
# How figures are spelled: shape, grouping mark, decimal mark. The first shape that fits decides. A lone point is
# always the decimal point ("0.125"). A lone comma before exactly three digits ("1,234") is 1234 in one country and
# 1.234 in another: no shape fits it, it is refused, unless the digits before it exclude one of the two.
_SPELLINGS = tuple(
    (re.compile(shape), grouping, mark)
    for shape, grouping, mark in (
        # 12.50, and PHP's own spelling of a small float: 1.0E-5
        (r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "", "."),
        # 1,234.56 and India's 1,23,456.78
        (r"[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}\.[0-9]+", ",", "."),
        # 1,234,567
        (r"[0-9]{1,3}(?:,[0-9]{2,3})+,[0-9]{3}", ",", "."),
        # 1.234,56
        (r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+", ".", ","),
        # 1.234.567
        (r"[0-9]{1,3}(?:\.[0-9]{3}){2,}", ".", ","),
        # 12,50 and 0,125 and 1234,567
        (r"[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})|0,[0-9]{3}|[0-9]{4,},[0-9]{3}", "", ","),
    )
)
_LONGEST_MONEY = 64
# 10^12 units is where `money.micros` ends too; 60 places are more than any float that was printed in full.
_MAX_WHOLE_DIGITS = 12
_MAX_PLACES = 60


def money(value: object) -> Money | None:
    """Return an amount of money exactly as it was spelled, or None if it cannot be read in one way only.

    Numbers, and text such as ``12.50``, ``$12.50``, ``12.50 USD``, ``1,234.56``, ``1.234,56``, ``₹1,234.56``
    (protocol.md 1.7). ``1,234`` is refused: it may be a thousand times the other.
    """
    if isinstance(value, str):
        return _spelled(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return _bounded(Decimal(value), None)


def _spelled(text: str) -> Money | None:
    match = _MONEY.fullmatch(text.strip()) if len(text) <= _LONGEST_MONEY else None
    digits = _digits(match["number"]) if match and not (match["minus"] and match["sign"]) else None
    if match is None or digits is None:
        return None
    amount = Decimal(match["minus"] + match["sign"] + digits)
    return _bounded(amount, _named(match["after"]) or _named(match["before"]))


def _digits(number: str) -> str | None:
    for shape, grouping, mark in _SPELLINGS:
        if shape.fullmatch(number):
            return number.replace(grouping, "").replace(mark, ".")
    return None


def _named(affix: str | None) -> str | None:
    return _SYMBOLS.get(affix, affix) if affix else None


def _bounded(amount: Decimal, named: str | None) -> Money | None:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_MAX_PLACES or amount.adjusted() >= _MAX_WHOLE_DIGITS:
        return None
    return Money(amount, named)


def price(value: object) -> Decimal | None:
    """Return an amount that cannot be negative: a rate or a charge."""
    read = money(value)
    return read.amount if read is not None and read.amount >= 0 else None


def currency(value: object) -> str | None:
    """Return a currency's code in capitals, or None if this is none."""
    code = value.strip().upper() if isinstance(value, str) else ""
    return code if re.fullmatch(r"[A-Z]{3,4}", code) else None


# --- Counts, ids, flags --------------------------------------------------------------------------------------

_COUNT = re.compile(r"(-?(?:[0-9]{1,19}|[0-9]{1,3}(?:,[0-9]{3}){1,6}))(?:\.0{1,2})?")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_FLAGS: Mapping[str, bool] = MappingProxyType(
    {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
)


def count(value: object) -> int | None:
    """Return a whole number, or None if this is none: ``null``, ``"Unknown"`` (protocol.md 1.5).

    ``"10,000"`` is ten thousand: a count has no fraction. ``"1.000"`` may be 1 or 1000 and is refused.
    """
    if isinstance(value, str):
        match = _COUNT.fullmatch(value.strip())
        value = int(match[1].replace(",", "")) if match else None
    elif isinstance(value, Decimal):
        value = int(value) if value.adjusted() < len(str(MAX_PANEL_ID)) and value == int(value) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= MAX_PANEL_ID else None


def natural(value: object) -> int | None:
    """Return a whole number that is not below zero, or None if this is none."""
    number = count(value)
    return None if number is None or number < 0 else number


def identifier(value: object) -> int | None:
    """Return a panel's id, a positive integer of at most 19 digits, also as text; else None.

    Never a float, a bool, 0 or a negative number: one public panel stores -3 for "no answer" (protocol.md 1.7).
    """
    if isinstance(value, str):
        return int(value) if _ID.fullmatch(value := value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= MAX_PANEL_ID else None


def identifiers(value: object) -> tuple[int, ...] | None:
    """Return the ids in a list or in a text with commas, or None if one of them, or the whole, is none."""
    parts = value.split(",") if isinstance(value, str) and value else value if isinstance(value, list) else [None]
    numbers = tuple(number for part in parts if (number := identifier(part)) is not None)
    return numbers if len(numbers) == len(parts) else None


_DAY = re.compile(r"[0-9]{1,4}([./-])[0-9]{1,2}\1[0-9]{1,4}(?:[ T][0-9:]{4,8})?")


def day(value: object) -> str | None:
    """Return a date as the panel writes it, or None if this is none: other text is not for callers."""
    return value.strip() if isinstance(value, str) and _DAY.fullmatch(value.strip()) else None


def flag(value: object) -> bool | None:
    """Return a yes or no given as bool, 0 or 1, or text; None if it is neither."""
    return _FLAGS.get(str(value).casefold()) if isinstance(value, bool | int | str) else None


# --- Words ---------------------------------------------------------------------------------------------------

# protocol.md 1.5. A panel's `Fail` becomes canceled (contract 3). Not so `Error`: on SmartPanel it is an order whose
# own provider did not answer, which an admin sends again by hand. It is left unknown like every word not listed, for
# a guess would pay money back.
STATUSES: Mapping[str, OrderStatus] = MappingProxyType(
    {
        "queued": OrderStatus.QUEUED,
        "pending": OrderStatus.PENDING,
        "awaiting": OrderStatus.PENDING,
        "inprogress": OrderStatus.IN_PROGRESS,
        "processing": OrderStatus.PROCESSING,
        "completed": OrderStatus.COMPLETED,
        "partial": OrderStatus.PARTIAL,
        "partiallycompleted": OrderStatus.PARTIAL,
        "canceled": OrderStatus.CANCELED,
        "cancelled": OrderStatus.CANCELED,
        "fail": OrderStatus.FAILED,
        "refunded": OrderStatus.REFUNDED,
        # Of subscriptions only.
        "active": OrderStatus.ACTIVE,
        "paused": OrderStatus.PAUSED,
        "expired": OrderStatus.EXPIRED,
    }
)
# A refill that was not done is rejected, whatever its panel calls that; no money hangs on it.
REFILL_STATUSES: Mapping[str, RefillStatus] = MappingProxyType(
    {
        "pending": RefillStatus.PENDING,
        "awaiting": RefillStatus.PENDING,
        "queued": RefillStatus.PENDING,
        "inprogress": RefillStatus.IN_PROGRESS,
        "processing": RefillStatus.IN_PROGRESS,
        "completed": RefillStatus.COMPLETED,
        "rejected": RefillStatus.REJECTED,
        "canceled": RefillStatus.REJECTED,
        "cancelled": RefillStatus.REJECTED,
        "fail": RefillStatus.REJECTED,
        "error": RefillStatus.REJECTED,
    }
)


def word(value: object) -> str:
    """Return a status or type as the tables spell it: ``IN_PROGRESS`` and ``In progress`` give ``inprogress``."""
    # A minus is no hyphen: some panels number their statuses, and `-2` is not the second.
    return re.sub(r"[\s_]+|-(?!\s*[0-9])", "", value).casefold() if isinstance(value, str) else ""


def scalar(value: object, limit: int = 300) -> str:
    """Return text or a number as one line of text, and ``""`` for everything else."""
    return plain(str(value), limit) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""


# Far more than panels show; what is longer is cut, so that one row cannot fill the catalog.
_LONGEST_LABEL = 1000
_LONGEST_PROSE = 10_000


def label(value: object) -> str:
    """Return a name as the panel gives it, HTML and emoji included, without control characters."""
    return _CONTROLS.sub(" ", value[:_LONGEST_LABEL]).strip() if isinstance(value, str) else scalar(value)


def prose(value: object) -> str:
    """Return a description as the panel gives it, line breaks included, without other control characters."""
    return _CONTROLS_BUT_LINES.sub("", value[:_LONGEST_PROSE]).strip() if isinstance(value, str) else scalar(value)


# The spelling of protocol.md 1.3.
TYPES: Mapping[str, str] = MappingProxyType(
    {
        word(name): name
        for name in (
            "Default",
            "SEO",
            "Custom Comments",
            "Mentions with Hashtags",
            "Mentions Custom List",
            "Mentions Hashtag",
            "Mentions User Followers",
            "Mentions Media Likers",
            "Mentions",
            "Package",
            "Custom Comments Package",
            "Comment Likes",
            "Poll",
            "Comment Replies",
            "Invites from Groups",
            "Subscriptions",
            "Web Traffic",
        )
    }
)


def service_type(value: object, types: Mapping[str, str] = TYPES) -> str:
    """Return a service's type in the spelling of protocol.md 1.3; a type that ``types`` lacks stays as it is."""
    return types.get(word(value), label(value)) or TYPES["default"]
