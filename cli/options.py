"""How the operator writes rates, durations, shares, money and names, and how they are written back.

Every type is one function that reads a text or raises ``ValueError``; `Written` makes a click type of it. Messages
never repeat what was typed: a secret may have slipped into the wrong place.
"""

import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import click

from chalicelib import money
from chalicelib.actions import Action
from chalicelib.clock import SECOND, rfc3339
from chalicelib.keys import TENANT_ID
from chalicelib.panels.reading import identifier
from cli.text import PERIODS, UNITS, UNLIMITED, duration_text

T = TypeVar("T")

MONEY_DECIMALS = 6
RATIO_DECIMALS = 12
MAX_RATIO = Decimal(10**9)
MAX_PERCENT = Decimal(10_000)
MAX_REFERENCE = 255
_RATE = re.compile(r"([1-9][0-9]{0,5})/(s|m|h)", re.ASCII)
_TOKEN = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,7})(s|m|h|d)", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,4})?)%", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,18})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3,5}", re.ASCII)
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1"})


class OutOfRangeError(ValueError):
    """A value that is well written, and too small or too large; the message says what is allowed."""


class Written(click.ParamType[Any], Generic[T]):
    """A click type made of a function that reads a text."""

    def __init__(self, name: str, read: Callable[[str], T], hint: str) -> None:
        self.name = name
        self._read = read
        self._hint = hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:  # noqa: ANN401
        """Return the value of a text; a default is one already."""
        if not isinstance(value, str):
            converted: T = value
            return converted
        try:
            return self._read(value)
        except OutOfRangeError as error:
            self.fail(str(error), param, ctx)
        except ValueError:
            self.fail(self._hint, param, ctx)


F = TypeVar("F", bound=Callable[..., Any])


def stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator made of several options, which then appear in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError
    return match


# --- Reading --------------------------------------------------------------------------------------------------------


def read_slug(text: str) -> str:
    """Return the name of a provider or a tenant."""
    return _matched(TENANT_ID, text)[0]


def read_rate(text: str) -> int:
    """Return the µs between two calls of a rate, rounded up so that nothing is faster than what was written."""
    calls, period = _matched(_RATE, text).groups()
    return -(-PERIODS[period] // int(calls))


def read_pace(text: str) -> int:
    """Return the µs between two calls, 0 for no limit."""
    return 0 if text == UNLIMITED else read_rate(text)


def read_many(text: str) -> int:
    """Return how many at once, 0 for no limit."""
    if text == UNLIMITED:
        return 0
    if not 1 <= int(text) <= 1000:  # noqa: PLR2004 - said in the type's hint
        raise ValueError
    return int(text)


def read_duration(text: str) -> int:
    """Return the seconds of a duration."""
    number, unit = _matched(_DURATION, text).groups()
    return int(number) * UNITS[unit]


def read_since(text: str) -> str:
    """Return a moment, or how long ago it was, as RFC 3339 in UTC: such texts sort by time."""
    try:
        if _DURATION.fullmatch(text):
            at = datetime.now(UTC) - timedelta(seconds=read_duration(text))
        else:
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError from None
    return rfc3339(round(at.timestamp() * SECOND))


def read_token(text: str) -> str:
    """Return the id of a version in Secrets Manager."""
    return _matched(_TOKEN, text)[0]


def read_percent(text: str) -> Decimal:
    """Return a percentage as a share: 10% is 0.1."""
    percent = Decimal(_matched(_PERCENT, text)[1])
    if percent > MAX_PERCENT:
        raise ValueError
    return (percent / 100).normalize()


def read_amount(text: str) -> int:
    """Return an amount of money in micro-units, exactly."""
    amount = _decimal(text, MONEY_DECIMALS)
    if amount > money.amount(money.MAX_MICROS):
        raise ValueError
    return money.micros(amount)


def read_limit(text: str) -> int:
    """Return an amount of money in micro-units, 0 for no limit."""
    return 0 if text == "none" else read_amount(text)


def read_refund(text: str) -> int:
    """Return an amount of money in micro-units, which may be 0."""
    return 0 if text == "0" else read_amount(text)


def read_ratio(text: str) -> Decimal:
    """Return what one unit of a currency is worth in another."""
    ratio = _decimal(text, RATIO_DECIMALS)
    if ratio > MAX_RATIO:
        raise ValueError
    return ratio


def _decimal(text: str, decimals: int) -> Decimal:
    try:
        number = Decimal(_matched(_DECIMAL, text)[0])
    except InvalidOperation:
        raise ValueError from None
    if number <= 0 or len(text.partition(".")[2]) > decimals:
        raise ValueError
    return number


def read_currency(text: str) -> str:
    """Return a currency's code."""
    return _matched(_CURRENCY, text)[0].upper()


def read_network(text: str) -> str:
    """Return a range of addresses in its one spelling; a single address is a range of one."""
    return str(ipaddress.ip_network(text))


def read_origin(text: str) -> str:
    """Return a web origin as browsers write it."""
    parts = urlsplit(text.removesuffix("/").lower())
    host, port = parts.hostname or "", parts.port
    plain = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    is_local = parts.scheme == "http" and host in _LOCAL_HOSTS
    if not (parts.scheme == "https" or is_local) or not _HOST.fullmatch(host) or plain != parts.geturl():
        raise ValueError
    return plain.removesuffix(":443") if parts.scheme == "https" else plain.removesuffix(":80")


def read_id(text: str) -> int:
    """Return the id of a service or an order."""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**31:
        raise ValueError
    return int(text)


def read_provider_order(text: str) -> int:
    """Return a provider's number of an order, as long as panels' replies may have it."""
    number = identifier(text)
    if number is None:
        raise ValueError
    return number


def read_reference(text: str) -> str:
    """Return what a payment is told apart by."""
    if not 1 <= len(text) <= MAX_REFERENCE or not text.isascii() or not text.isprintable():
        raise ValueError
    return text


def read_name(text: str) -> str:
    """Return what the operator calls something."""
    if len(text) > MAX_REFERENCE or not text.isprintable():
        raise ValueError
    return text


def _list_of(read: Callable[[str], T], *, empty: str) -> Callable[[str], tuple[T, ...]]:
    """Return the reader of a comma-separated list; one word stands for the empty one."""

    def read_list(text: str) -> tuple[T, ...]:
        return () if text == empty else tuple(dict.fromkeys(read(part.strip()) for part in text.split(",")))

    return read_list


def _between(read: Callable[[str], int], least: int, most: int) -> Callable[[str], int]:
    def read_between(text: str) -> int:
        value = read(text)
        if not least <= value <= most:
            raise OutOfRangeError(f"it must be between {duration_text(least)} and {duration_text(most)}")
        return value

    return read_between


# --- The types ------------------------------------------------------------------------------------------------------

_A_SLUG = "use 1 to 32 lower-case letters, digits and hyphens, with no hyphen at either end"
_A_DURATION = "write a number and its unit: 30s, 10m, 24h or 90d"
_ACTIONS = ", ".join(Action)
_DAY = UNITS["d"]

SLUG = Written("name", read_slug, _A_SLUG)
SLUGS = Written("names", _list_of(read_slug, empty="all"), "write names with commas between, or `all`")
RATE = Written("rate", read_rate, "write calls per second, minute or hour: 10/s, 30/m or 100/h")
PACE = Written("rate", read_pace, f"write calls per second, minute or hour: 1/s, 30/m or 100/h; or `{UNLIMITED}`")
MANY = Written("number", read_many, f"write a number from 1 to 1000, or `{UNLIMITED}`")
PERCENT = Written("percent", read_percent, "write a percentage with at most 4 decimals, such as 10% or 2.5%")
AMOUNT = Written("amount", read_amount, "write an amount above 0 with at most 6 decimals, such as 100 or 12.50")
REFUND = Written("amount", read_refund, "write 0, or an amount above 0 with at most 6 decimals, such as 12.50")
LIMIT = Written("amount", read_limit, "write an amount above 0 with at most 6 decimals, such as 50, or `none`")
RATIO = Written("ratio", read_ratio, "write how many USD one unit is worth, such as 0.00065")
CURRENCY = Written("currency", read_currency, "write the currency's code, such as USD or EUR")
NETWORK = Written("cidr", read_network, "write a range such as 203.0.113.0/24, without host bits, or one address")
ORIGINS = Written(
    "origins",
    _list_of(read_origin, empty="none"),
    "write origins such as https://shop.example, without a path and with commas between, or `none`",
)
SERVICES = Written("ids", _list_of(read_id, empty="all"), "write service ids with commas between, or `all`")
ORDER = Written("id", read_id, "write the number of an order")
PROVIDER_ORDER = Written("id", read_provider_order, "write the provider's number of an order, of at most 19 digits")
ACTIONS = Written(
    "actions", _list_of(lambda text: Action(text).value, empty="all"), f"write any of {_ACTIONS}, or `all`"
)
REFERENCE = Written("reference", read_reference, "use 1 to 255 printable ASCII characters")
NAME = Written("name", read_name, "use at most 255 printable characters")
SINCE = Written("moment", read_since, "write how long ago, such as 24h, or a date or time such as 2027-01-15T08:00:00Z")
QUIET = Written("duration", _between(read_duration, 1, 30 * _DAY), _A_DURATION)
DEDUPE = Written("duration", _between(read_duration, 0, _DAY), _A_DURATION)
EXPIRY = Written("duration", _between(read_duration, 60, 3650 * _DAY), _A_DURATION)
OVERLAP = Written("duration", _between(read_duration, 0, 7 * _DAY), _A_DURATION)
WATCH = Written("duration", _between(read_duration, 0, 3600), _A_DURATION)
TOKEN = Written("token", read_token, "write a UUID, such as 9b1c3b9e-5f0d-4c3e-9a57-2d1f0c6b8a41")
