"""What is asked of a panel and what it answers, in our own words; the dialects translate both ways.

A call names the provider's own ids. Every answer is one of the types below; a reply that is none of them raises
``errors.UnreadableReply``: the tables decide, nobody guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from chalicelib.model import OrderStatus


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


@dataclass(frozen=True, slots=True)
class GetBalance:
    """Ask what money the account has."""


@dataclass(frozen=True, slots=True)
class ListServices:
    """Ask for the whole catalog."""


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Buy. ``quantity`` is per run; ``extra`` holds further protocol fields, forwarded as they are."""

    service: int
    link: str
    quantity: int
    runs: int | None = None
    interval: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask how one order is doing."""

    order: int


Call = GetBalance | ListServices | PlaceOrder | GetStatus


class Reason(StrEnum):
    """Why a panel said no, whatever its words were (protocol.md 1.6)."""

    BAD_KEY = "bad_key"
    NO_FUNDS = "no_funds"
    THROTTLED = "throttled"
    MALFORMED = "malformed"
    SERVICE = "service"
    LINK = "link"
    DUPLICATE_LINK = "duplicate_link"
    QUANTITY = "quantity"
    ORDER = "order"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Refused:
    """The panel understood and said no: nothing was bought. ``text`` is its own sentence, for the operator."""

    reason: Reason
    text: str


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
    """What the panel says of an order; None is what it did not say. ``raw_status`` is its own spelling."""

    status: OrderStatus | None
    raw_status: str
    charge: Decimal | None
    currency: str | None
    start_count: int | None
    remains: int | None


Answer = Balance | Services | Placed | Status | Refused
