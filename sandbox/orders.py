"""An order's record and its life: where it stands after how long, as a pure function.

The link decides the outcome, so that a test can choose one without asking the admin path:

| link contains             | the order ends                                                           |
|---------------------------|--------------------------------------------------------------------------|
| `slowstart`               | never: it stays pending                                                  |
| `fail`                    | failed when delivery should begin, all money back                        |
| `cancel` and `partial`    | canceled after part of the delivery, the undelivered part's money back   |
| `cancel`                  | canceled before delivery, all money back                                 |
| `partial`                 | partial, the undelivered part's money back                               |
| nothing of this           | completed                                                                |
"""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sandbox import money

PENDING_FOR = 10.0
PROCESSING_FOR = 10.0
DELIVERY_FOR = 40.0
"""Seconds at speed 1: an order is done after a minute."""

DELIVERY_AT = PENDING_FOR + PROCESSING_FOR
END_AT = DELIVERY_AT + DELIVERY_FOR

CANCEL_AFTER = 5.0
"""A cancel request is accepted at once and takes effect later, as `cancel: 1` means on real panels."""

POST_EVERY = 30.0
"""A subscribed account publishes a post this often."""

REFILL_STARTS_AT = 10.0
REFILL_ENDS_AT = 40.0


class Stage(StrEnum):
    """Where an order stands, in the sandbox's own words; dialects have their own spelling."""

    PENDING = "pending"
    PROCESSING = "processing"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    PARTIAL = "partial"
    CANCELED = "canceled"
    FAILED = "failed"
    REFUNDED = "refunded"
    ACTIVE = "active"
    PAUSED = "paused"
    EXPIRED = "expired"


ENDS = frozenset({Stage.COMPLETED, Stage.PARTIAL, Stage.CANCELED, Stage.FAILED, Stage.REFUNDED, Stage.EXPIRED})
FULL_REFUND = frozenset({Stage.FAILED, Stage.REFUNDED})
SHARED_REFUND = frozenset({Stage.PARTIAL, Stage.CANCELED})


class Outcome(StrEnum):
    """How an order will end."""

    NEVER = "never"
    FAIL = "fail"
    CANCEL_MIDWAY = "cancel_midway"
    CANCEL = "cancel"
    PARTIAL = "partial"
    COMPLETE = "complete"


_OUTCOMES: tuple[tuple[frozenset[str], Outcome], ...] = (
    (frozenset({"slowstart"}), Outcome.NEVER),
    (frozenset({"fail"}), Outcome.FAIL),
    (frozenset({"cancel", "partial"}), Outcome.CANCEL_MIDWAY),
    (frozenset({"cancel"}), Outcome.CANCEL),
    (frozenset({"partial"}), Outcome.PARTIAL),
)


def outcome_of(link: str) -> Outcome:
    """The end that a link asks for."""
    lowered = link.lower()
    for marks, outcome in _OUTCOMES:
        if all(mark in lowered for mark in marks):
            return outcome
    return Outcome.COMPLETE


@dataclass
class Subscription:
    """What a subscription was asked for, and the orders it made for posts so far."""

    least: int
    most: int
    old_posts: int
    new_posts: int | None
    """None: until canceled or expired."""
    expires: float | None
    children: list[int] = field(default_factory=list)

    @property
    def posts(self) -> int | None:
        """All posts it covers, or None."""
        return None if self.new_posts is None else self.old_posts + self.new_posts

    def due(self, age: float) -> int:
        """How many posts should have an order by now."""
        if age < PENDING_FOR:
            return 0
        published = int((age - PENDING_FOR) // POST_EVERY)
        return self.old_posts + (published if self.new_posts is None else min(published, self.new_posts))

    def expiry_text(self) -> str | None:
        """The expiry as panels write it."""
        return None if self.expires is None else datetime.fromtimestamp(self.expires, UTC).strftime("%d/%m/%Y")


@dataclass
class Order:
    """One order of a panel."""

    id: int
    service: int
    link: str
    quantity: int
    """All units: of a drip-feed order, of all runs."""
    charge: Decimal
    created: float
    details: dict[str, str] = field(default_factory=dict)
    stage: Stage = Stage.PENDING
    remains: int | None = None
    """None before delivery begins."""
    start_count: int | None = None
    refunded: Decimal = Decimal(0)
    canceling_at: float | None = None
    unconfirmed: bool = False
    pinned: bool = False
    """Set by hand: time no longer moves it."""
    shown: dict[str, Any] = field(default_factory=dict)
    """Reply fields set by hand to something that no real order has."""
    subscription: Subscription | None = None
    customer: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.stage in ENDS

    @property
    def left(self) -> int:
        """Units not delivered."""
        return self.quantity if self.remains is None else self.remains

    def as_record(self) -> dict[str, Any]:
        """The order as JSON."""
        return asdict(self) | {"charge": str(self.charge), "refunded": str(self.refunded)}


def order_from(record: Mapping[str, Any]) -> Order:
    """Read an order as `as_record` writes it."""
    subscription = record["subscription"]
    restored: dict[str, Any] = {
        "charge": Decimal(record["charge"]),
        "refunded": Decimal(record["refunded"]),
        "stage": Stage(record["stage"]),
        "subscription": subscription and Subscription(**subscription),
    }
    return Order(**{**record, **restored})


@dataclass(frozen=True)
class Standing:
    """The part of an order that time moves."""

    stage: Stage
    remains: int | None
    start_count: int | None


def standing_at(order: Order, age: float) -> Standing:
    """Where an order stands when nobody interferes."""
    outcome = outcome_of(order.link)
    if outcome is Outcome.NEVER or age < PENDING_FOR:
        return Standing(Stage.PENDING, None, None)
    if outcome is Outcome.CANCEL:
        return Standing(Stage.CANCELED, None, None)
    start = 100 + zlib.crc32(order.link.encode(errors="replace")) % 9900
    if age < DELIVERY_AT:
        return Standing(Stage.PROCESSING, order.quantity, start)
    if outcome is Outcome.FAIL:
        return Standing(Stage.FAILED, order.quantity, start)
    if age < END_AT:
        return Standing(Stage.IN_PROGRESS, _left_during_delivery(order, age, outcome), start)
    return Standing(_END[outcome], _left_at_end(order, outcome), start)


_END = {
    Outcome.CANCEL_MIDWAY: Stage.CANCELED,
    Outcome.PARTIAL: Stage.PARTIAL,
    Outcome.COMPLETE: Stage.COMPLETED,
}


def _left_at_end(order: Order, outcome: Outcome) -> int:
    # mysticsmm's example: 10,000 ordered, 7,000 delivered, remains 3,000.
    return 0 if outcome is Outcome.COMPLETE else max(1, order.quantity * 3 // 10)


def _left_during_delivery(order: Order, age: float, outcome: Outcome) -> int:
    delivering = order.quantity - _left_at_end(order, outcome)
    return order.quantity - int(delivering * (age - DELIVERY_AT) / DELIVERY_FOR)


def refund_of(order: Order) -> Decimal:
    """What goes back to the balance when the order has ended.

    The only document with a rule is mysticsmm's. Partial: the undelivered part of the charge. Cancelled: the same if
    some units remain, but "if the order is cancelled before any delivery, you get a full refund", which it writes as
    `remains > 0 ? … : full charge`. So a cancelled order with remains 0 is paid back in full.
    """
    if order.stage in FULL_REFUND or (order.stage is Stage.CANCELED and not order.remains):
        return order.charge
    if order.stage in SHARED_REFUND and order.remains and order.remains > 0:
        return money.share(order.charge, order.remains, order.quantity)
    return Decimal(0)


@dataclass(frozen=True)
class Refill:
    """One refill request. A link that contains `norefill` has its refills rejected."""

    id: int
    order: int
    created: float
    rejected: bool

    def status(self, age: float) -> str:
        """Where it stands, in the protocol's words."""
        if age < REFILL_STARTS_AT:
            return "Pending"
        if age < REFILL_ENDS_AT:
            return "In progress"
        return "Rejected" if self.rejected else "Completed"
