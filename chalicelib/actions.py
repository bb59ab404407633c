"""What is asked of a panel and what it answers, in our own words; the dialects translate both ways.

A call names the provider's own ids. Every answer is one of the types below; a reply that is none of them raises
``errors.UnreadableReply``: the tables decide, nobody guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from chalicelib.model import OrderStatus, RefillStatus


class Action(StrEnum):
    """The actions of the contract; the names are those of the protocol."""

    BALANCE = "balance"
    SERVICES = "services"
    ADD = "add"
    STATUS = "status"
    REFILL = "refill"
    REFILL_STATUS = "refill_status"
    CANCEL = "cancel"
    ORDERS = "orders"
    USAGE = "usage"
    TOKEN = "token"  # noqa: S105 - the name of an action, not a secret


# The classic protocol's own (protocol.md 1.2); the others are of our JSON API.
CLASSIC_ACTIONS = frozenset(Action) - {Action.ORDERS, Action.USAGE, Action.TOKEN}
# What a browser token may do (contract 4), in the protocol's order.
GRANTABLE = tuple(action for action in Action if action not in (Action.USAGE, Action.TOKEN))


@dataclass(frozen=True, slots=True)
class GetBalance:
    """Ask what money the account has."""


@dataclass(frozen=True, slots=True)
class ListServices:
    """Ask for the whole catalog."""


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Buy. ``quantity`` is per run; ``extra`` holds the type's own and further fields, forwarded as they are.

    ``link`` and ``quantity`` are None where the service's type has none (protocol.md 1.3).
    """

    service: int
    link: str | None = None
    quantity: int | None = None
    runs: int | None = None
    interval: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask how one order is doing."""

    order: int


@dataclass(frozen=True, slots=True)
class GetStatuses:
    """Ask how several orders are doing, in one call."""

    orders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RequestRefill:
    """Ask for a refill of one order."""

    order: int


@dataclass(frozen=True, slots=True)
class RequestRefills:
    """Ask for refills of several orders, in one call."""

    orders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GetRefill:
    """Ask how one refill is doing, by the panel's id of it."""

    refill: int


@dataclass(frozen=True, slots=True)
class GetRefills:
    """Ask how several refills are doing, in one call."""

    refills: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Ask that one order be canceled."""

    order: int


@dataclass(frozen=True, slots=True)
class RequestCancels:
    """Ask that several orders be canceled, in one call."""

    orders: tuple[int, ...]


SingleCall = GetStatus | RequestRefill | GetRefill | RequestCancel
BatchCall = GetStatuses | RequestRefills | GetRefills | RequestCancels
Call = GetBalance | ListServices | PlaceOrder | SingleCall | BatchCall


class Reason(StrEnum):
    """Why a panel said no, whatever its words were (protocol.md 1.6)."""

    BAD_KEY = "bad_key"
    KEY_OR_REQUEST = "key_or_request"
    """It is the key or what was asked: the panel has one sentence for both."""
    NO_FUNDS = "no_funds"
    THROTTLED = "throttled"
    MALFORMED = "malformed"
    ACTION = "action"
    SERVICE = "service"
    LINK = "link"
    DUPLICATE_LINK = "duplicate_link"
    QUANTITY = "quantity"
    QUANTITY_LOW = "quantity_low"
    QUANTITY_HIGH = "quantity_high"
    ORDER = "order"
    REFILL = "refill"
    NOT_REFILLABLE = "not_refillable"
    NOT_CANCELABLE = "not_cancelable"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Refused:
    """The panel understood and said no: nothing was bought. ``text`` is its own sentence, for the operator.

    ``bound`` is the figure in a sentence about a quantity that is too low or too high.
    """

    reason: Reason
    text: str
    bound: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """Money in the account, in units of ``currency`` (None: the panel did not say)."""

    amount: Decimal
    currency: str | None


@dataclass(frozen=True, slots=True)
class PanelService:
    """One service as the panel lists it; ``rate`` per 1000 in the panel's currency, ``type`` as we spell it."""

    id: int
    name: str
    type: str
    category: str
    rate: Decimal
    min: int
    max: int
    refill: bool
    cancel: bool
    dripfeed: bool | None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Services:
    """The catalog. ``skipped`` tells, in a sentence each, which rows could not be understood."""

    services: tuple[PanelService, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """The panel took the order under this id; ``pending``: it will confirm later (smm.africa's 202).

    ``warning`` says what spoke against it, an error beside the id or an odd HTTP status; the operator should look.
    """

    order: int
    pending: bool = False
    charge: Decimal | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What the panel says of an order; None is what it did not say. ``raw_status`` is its own spelling.

    A subscription has ``posts`` and ``expiry``, and like a drip-feed order it has child orders: ``orders`` are the
    panel's ids of those (protocol.md 1.5), None if it names none at all. ``odd_remains``: it said what remains, and it
    cannot be read ("Unknown").
    """

    status: OrderStatus | None
    raw_status: str
    charge: Decimal | None
    currency: str | None
    start_count: int | None
    remains: int | None
    odd_remains: bool = False
    orders: tuple[int, ...] | None = None
    posts: int | None = None
    expiry: str | None = None


@dataclass(frozen=True, slots=True)
class RefillTaken:
    """The panel accepted a refill request; ``refill`` is its id of it, None where it gives none (smm.africa)."""

    refill: int | None


@dataclass(frozen=True, slots=True)
class RefillReading:
    """What the panel says of a refill; ``status`` is None for a word that no table knows."""

    status: RefillStatus | None
    raw_status: str


@dataclass(frozen=True, slots=True)
class CancelTaken:
    """The panel accepted a cancel request; what comes of it shows in the order's status only."""


Item = Status | RefillTaken | RefillReading | CancelTaken | Refused


@dataclass(frozen=True, slots=True)
class Items:
    """The answer to a batch, by the id that was asked for. What the panel left out is not in it."""

    items: Mapping[int, Item]


Answer = Balance | Services | Placed | Items | Item
