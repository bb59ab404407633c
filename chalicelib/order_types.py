"""The types of services (protocol.md 1.3): which fields an order of each needs, what is counted, what it costs.

A panel would refuse what is refused here, and some take money for what they misread; so nothing is sent that does not
fit its type.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

from chalicelib import money
from chalicelib.commands import AddCommand
from chalicelib.errors import Code, Refusal
from chalicelib.model import Order, Service

SUBSCRIPTIONS = "Subscriptions"
# What all units of an order may come to. DynamoDB keeps 38 digits, and the charge must fit at any rate.
MAX_UNITS = 10**15
# Minutes that some age of panel offers as a subscription's delay.
_DELAYS = frozenset({0, 5, 10, 15, 20, 30, 40, 50, *range(60, 601, 30)})
_DRIP = ("runs", "interval")


@dataclass(frozen=True, slots=True)
class OrderType:
    """What a type demands of an order.

    Attributes:
        required: the fields that must be given.
        optional: those that may be given; all other fields of the protocol do not belong to the type.
        counted: the list whose lines are the quantity, where none is sent.
        packaged: the rate is the price of the whole order, not of a thousand.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    counted: str | None = None
    packaged: bool = False


def _by_quantity(*fields: str, optional: tuple[str, ...] = ()) -> OrderType:
    return OrderType(("link", "quantity", *fields), optional)


ORDER_TYPES: Mapping[str, OrderType] = MappingProxyType(
    {
        "Default": _by_quantity(optional=_DRIP),
        "SEO": _by_quantity("keywords"),
        "Custom Comments": OrderType(("link", "comments"), counted="comments"),
        "Mentions with Hashtags": _by_quantity("usernames", "hashtags"),
        "Mentions Custom List": OrderType(("link", "usernames"), counted="usernames"),
        "Mentions Hashtag": _by_quantity("hashtag"),
        "Mentions User Followers": _by_quantity("username"),
        "Mentions Media Likers": _by_quantity("media"),
        "Mentions": _by_quantity("usernames"),
        "Package": OrderType(("link",), packaged=True),
        "Custom Comments Package": OrderType(("link", "comments"), packaged=True),
        "Comment Likes": _by_quantity("username"),
        "Poll": _by_quantity("answer_number"),
        "Comment Replies": OrderType(("link", "username", "comments"), counted="comments"),
        "Invites from Groups": _by_quantity("groups"),
        SUBSCRIPTIONS: OrderType(("username", "min", "max", "delay"), ("posts", "old_posts", "expiry")),
        "Web Traffic": _by_quantity(
            "country", "device", "type_of_traffic", optional=(*_DRIP, "google_keyword", "referring_url")
        ),
    }
)
_FEW = frozenset({"link", "quantity", *_DRIP})


@dataclass(frozen=True, slots=True)
class Terms:
    """An order that fits its service's type.

    Attributes:
        link: None for a subscription.
        quantity: units of one run; 1 for a package; what one post gets at most for a subscription.
        extra: the type's further fields and those that no type knows, as text.
        units: what is paid for: all runs, and all posts that a subscription holds money for.
        packaged: the rate is the price of the whole order.
        endless: a subscription without a number of posts; what it will cost in all, nobody knows.
    """

    link: str | None
    quantity: int
    runs: int | None = None
    interval: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    units: int = 1
    packaged: bool = False
    endless: bool = False

    def charge(self, rate: int) -> int:
        """Return the price in micro-USD at ``rate`` micro-USD per 1000, or per package."""
        return rate if self.packaged else money.charge(rate, self.units)


def meaning(command: AddCommand, type_name: str) -> Mapping[str, str]:
    """Return what is ordered of a service of a type, however it was written.

    v2 text and v3 numbers compare equal, and so does a form that sends the fields of other types as 0.
    """
    kind = ORDER_TYPES.get(type_name)
    of_type = command.of_type if kind is None else _without_blanks(kind, command.of_type)
    fields = {"service": command.service, **of_type, **command.further}
    return {name: str(value) for name, value in fields.items()}


def sends_quantity(type_name: str) -> bool:
    """Say whether orders of a type tell the panel a quantity."""
    return "quantity" in ORDER_TYPES[type_name].required


def total_units(order: Order) -> int | None:
    """Return how many units an order has in all; None for a package or a subscription, which do not say."""
    if order.type == SUBSCRIPTIONS or ORDER_TYPES[order.type].packaged:
        return None
    return order.quantity * (order.runs or 1)


def quoted(order: Order) -> Decimal | None:
    """Return what an order should cost at its provider, in its currency; None for a subscription, paid post by post."""
    if order.type == SUBSCRIPTIONS:
        return None
    units = total_units(order)
    return order.cost if units is None else order.cost * units / 1000


def read_terms(command: AddCommand, service: Service) -> Terms:
    """Return what is ordered, checked against the type and the limits of its service.

    Raises:
        Refusal: `not_supported`, `missing_field`, `invalid_quantity` or `invalid_request`.
    """
    kind = ORDER_TYPES.get(service.type)
    if kind is None:
        raise Refusal(Code.NOT_SUPPORTED, "Services of this type cannot be ordered here")
    fields = _fitting(kind, command.of_type)
    check = _CHECKS.get(service.type)
    if check is not None:
        check(fields)
    details = {name: str(value) for name, value in fields.items() if name not in _FEW}
    extra = {**command.further, **details}
    if service.type == SUBSCRIPTIONS:
        return _subscription(fields, service, extra)
    link = str(fields["link"])
    if kind.packaged:
        return Terms(link, 1, extra=extra, packaged=True)
    quantity = _quantity(kind, fields)
    _check_limits(quantity, service, "quantity")
    units = quantity * (command.runs or 1)
    if units > MAX_UNITS:
        raise _incorrect_quantity("runs")
    return Terms(link, quantity, command.runs, command.interval if command.runs else None, extra, units)


def _fitting(kind: OrderType, given: Mapping[str, str | int]) -> Mapping[str, str | int]:
    """Return the fields that belong to the type, or refuse what is missing or belongs to another one."""
    fields = _without_blanks(kind, given)
    for name in fields:
        if name not in (*kind.required, *kind.optional):
            raise Refusal(Code.INVALID_REQUEST, f"The field {name} does not belong to this service's type", field=name)
    for name in kind.required:
        if name not in fields:
            raise _missing(name)
    if ("runs" in fields) != ("interval" in fields):
        raise _missing("interval" if "runs" in fields else "runs")
    return fields


def _without_blanks(kind: OrderType, given: Mapping[str, str | int]) -> Mapping[str, str | int]:
    """Leave out what panel scripts send of the fields that do not apply, empty or 0 (contract 4)."""
    applying = {*kind.required, *kind.optional} - (set() if "runs" in given else {"interval"})
    return {name: value for name, value in given.items() if name in applying or value not in (0, "0")}


def _missing(name: str) -> Refusal:
    return Refusal(Code.MISSING_FIELD, f"The field {name} is missing", field=name)


def _wrong(name: str, what: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"The field {name} is not right: {what}", field=name)


def _incorrect_quantity(name: str) -> Refusal:
    return Refusal(Code.INVALID_QUANTITY, "Incorrect quantity", field=name)


def _quantity(kind: OrderType, fields: Mapping[str, str | int]) -> int:
    if kind.counted is None:
        return int(fields["quantity"])
    return str(fields[kind.counted]).count("\n") + 1


def _check_limits(number: int, service: Service, name: str) -> None:
    if number < service.min:
        raise Refusal(Code.INVALID_QUANTITY, f"Quantity less than minimal {service.min}", field=name)
    if number > service.max:
        raise Refusal(Code.INVALID_QUANTITY, f"Quantity more than maximum {service.max}", field=name)


def _subscription(fields: Mapping[str, str | int], service: Service, extra: Mapping[str, str]) -> Terms:
    """Hold max for each post that is known to come; where their number is open, for one (contract 4)."""
    least, most = int(fields["min"]), int(fields["max"])
    _check_limits(least, service, "min")
    _check_limits(most, service, "max")
    if least > most:
        raise _incorrect_quantity("min")
    posts = int(fields.get("posts", 1)) + int(fields.get("old_posts", 0))
    units = most * max(1, posts)
    if units > MAX_UNITS:
        raise _incorrect_quantity("posts")
    # 0 is "old posts only" in the official example (protocol.md 1.3), and nobody promises that each panel stops there.
    return Terms(None, most, extra=extra, units=units, endless=not fields.get("posts"))


def _check_subscription(fields: Mapping[str, str | int]) -> None:
    if fields["delay"] not in _DELAYS:
        raise _wrong("delay", "no panel offers this number of minutes")
    try:
        datetime.strptime(str(fields.get("expiry", "31/12/2099")), "%d/%m/%Y")  # noqa: DTZ007 - a day, not a time
    except ValueError:
        raise _wrong("expiry", "a day such as 31/12/2026 is needed") from None


def _check_traffic(fields: Mapping[str, str | int]) -> None:
    if fields["device"] not in range(1, 6):
        raise _wrong("device", "it is 1 to 5")
    if fields["type_of_traffic"] not in range(1, 4):
        raise _wrong("type_of_traffic", "it is 1 to 3")
    needed = {1: "google_keyword", 2: "referring_url"}.get(int(fields["type_of_traffic"]))
    if needed is not None and needed not in fields:
        raise _missing(needed)


_CHECKS: Mapping[str, Callable[[Mapping[str, str | int]], None]] = MappingProxyType(
    {SUBSCRIPTIONS: _check_subscription, "Web Traffic": _check_traffic}
)
