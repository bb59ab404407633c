"""What an `add` asks for, by the type of its service: which fields it needs, what is counted, what it costs."""

import calendar
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from sandbox import money
from sandbox.messages import PanelError, Problem
from sandbox.orders import Subscription
from sandbox.services import Service

DELAYS = frozenset(
    {0, 5, 10, 15, 20, 30, 40, 50, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 360, 390, 420, 450, 480, 510, 540,
     570, 600}
)  # fmt: skip
"""Minutes that some age of panel offers as a subscription's delay."""

MAX_DIGITS = 12


@dataclass(frozen=True)
class TypeRule:
    """What a service type demands of an order."""

    required: tuple[str, ...]
    counted: str | None = None
    """The list field whose lines are the quantity, where no quantity is sent."""
    packaged: bool = False
    """The rate is the price of the package, not of a thousand."""


def _counting_quantity(*fields: str) -> TypeRule:
    return TypeRule(("link", "quantity", *fields))


TYPES: Mapping[str, TypeRule] = MappingProxyType(
    {
        "default": _counting_quantity(),
        "seo": _counting_quantity("keywords"),
        "custom comments": TypeRule(("link", "comments"), counted="comments"),
        "mentions with hashtags": _counting_quantity("usernames", "hashtags"),
        "mentions custom list": TypeRule(("link", "usernames"), counted="usernames"),
        "mentions hashtag": _counting_quantity("hashtag"),
        "mentions user followers": _counting_quantity("username"),
        "mentions media likers": _counting_quantity("media"),
        "mentions": _counting_quantity("usernames"),
        "package": TypeRule(("link",), packaged=True),
        "custom comments package": TypeRule(("link", "comments"), packaged=True),
        "comment likes": _counting_quantity("username"),
        "poll": _counting_quantity("answer_number"),
        "comment replies": TypeRule(("link", "username", "comments"), counted="comments"),
        "invites from groups": _counting_quantity("groups"),
        "subscriptions": TypeRule(("username", "min", "max", "delay")),
        "web traffic": _counting_quantity("country", "device", "type_of_traffic"),
    }
)

_MISSING = {"link": Problem.BAD_LINK, "quantity": Problem.BAD_QUANTITY}
_TRAFFIC_NEEDS = {"1": "google_keyword", "2": "referring_url"}


@dataclass(frozen=True)
class Purchase:
    """An `add` that passed its checks."""

    service: int
    link: str
    quantity: int
    charge: Decimal
    details: dict[str, str] = field(default_factory=dict)
    subscription: Subscription | None = None


def read_purchase(service: Service, fields: Mapping[str, str]) -> Purchase:
    """Check the fields of an `add` against the type of its service, and price it.

    Raises:
        PanelError: with the first thing that is wrong.
    """
    kind = service.type.lower().replace("_", " ")
    rule = TYPES.get(kind, TYPES["default"])
    for name in rule.required:
        _demand(fields, name)
    details = {name: value for name, value in fields.items() if name not in ("service", "link", "quantity")}
    if kind == "subscriptions":
        return Purchase(service.id, fields["username"], 0, Decimal(0), details, _read_subscription(service, fields))
    if kind == "web traffic" and fields["type_of_traffic"] in _TRAFFIC_NEEDS:
        _demand(fields, _TRAFFIC_NEEDS[fields["type_of_traffic"]])
    if rule.packaged:
        return Purchase(service.id, fields["link"], 1, service.rate, details)
    quantity = _lines(fields[rule.counted]) if rule.counted else _number(fields["quantity"])
    _check_limits(service, quantity)
    total = quantity * _runs(service, fields)
    return Purchase(service.id, fields["link"], total, money.price(service.rate, total), details)


def _demand(fields: Mapping[str, str], name: str) -> None:
    if not fields.get(name):
        raise PanelError(_MISSING.get(name, Problem.BAD_REQUEST))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise PanelError(Problem.BAD_QUANTITY)
    return int(text)


def _lines(text: str) -> int:
    # Python's own idea of lines would also break at U+2028 and the like; panels know CR LF and LF.
    return sum(1 for line in text.split("\n") if line.strip())


def _check_limits(service: Service, quantity: int) -> None:
    if quantity < service.min:
        raise PanelError(Problem.QUANTITY_LOW, min=service.min, max=service.max)
    if quantity > service.max:
        raise PanelError(Problem.QUANTITY_HIGH, min=service.min, max=service.max)


def _runs(service: Service, fields: Mapping[str, str]) -> int:
    # The quantity of a drip-feed order is per run. Where a service has no drip-feed, panels ignore the two fields.
    if not service.dripfeed or fields.get("runs", "0") in ("", "0"):
        return 1
    _demand(fields, "interval")
    return _number(fields["runs"])


def _read_subscription(service: Service, fields: Mapping[str, str]) -> Subscription:
    least, most = _number(fields["min"]), _number(fields["max"])
    _check_limits(service, least)
    _check_limits(service, most)
    if least > most or _number(fields["delay"]) not in DELAYS:
        raise PanelError(Problem.BAD_REQUEST)
    posts = fields.get("posts")
    return Subscription(
        least=least,
        most=most,
        old_posts=_number(fields.get("old_posts") or "0"),
        # The official example passes `posts=0` to mean old posts only; not passed at all means every new one.
        new_posts=_number(posts) if posts else None,
        expires=_end_of_day(fields.get("expiry")),
    )


def _end_of_day(expiry: str | None) -> float | None:
    if not expiry:
        return None
    try:
        return calendar.timegm(time.strptime(expiry, "%d/%m/%Y")) + 86_399.0
    except ValueError:
        raise PanelError(Problem.BAD_REQUEST) from None
