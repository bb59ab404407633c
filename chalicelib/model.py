"""The nouns: providers, tenants, services and orders, as values without behaviour of their own storage."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType

from chalicelib.clock import DAY


class OrderStatus(StrEnum):
    """How an order is doing, in the contract's v3 spelling.

    A failed one is shown as canceled; the last three are of subscriptions only.
    """

    QUEUED = "queued"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    PROCESSING = "processing"
    COMPLETED = "completed"
    PARTIAL = "partial"
    CANCELED = "canceled"
    REFUNDED = "refunded"
    UNKNOWN = "unknown"
    FAILED = "failed"
    ACTIVE = "active"
    PAUSED = "paused"
    EXPIRED = "expired"


FINAL = frozenset(
    {
        OrderStatus.COMPLETED,
        OrderStatus.PARTIAL,
        OrderStatus.CANCELED,
        OrderStatus.REFUNDED,
        OrderStatus.FAILED,
        OrderStatus.EXPIRED,
    }
)
NOT_BEGUN = frozenset({OrderStatus.QUEUED, OrderStatus.PENDING})
# These say something of subscriptions and drip-feeds only; of an ordinary order no table knows what they mean.
OF_PARENTS = frozenset({OrderStatus.ACTIVE, OrderStatus.PAUSED, OrderStatus.EXPIRED})
# Whatever an order was delivered of, it is paid back whole.
PAID_BACK_WHOLE = frozenset({OrderStatus.REFUNDED, OrderStatus.FAILED})
_PAID_BACK = PAID_BACK_WHOLE | {OrderStatus.CANCELED}
# What panels make of an order that had ended: a refill delivers it again, and one that lost what it got is paid back
# after all. Whatever else follows an end is not believed.
REOPENS: Mapping[OrderStatus, frozenset[OrderStatus]] = MappingProxyType(
    {
        OrderStatus.COMPLETED: frozenset(
            {OrderStatus.PENDING, OrderStatus.IN_PROGRESS, OrderStatus.PROCESSING, OrderStatus.PARTIAL, *_PAID_BACK}
        ),
        OrderStatus.PARTIAL: _PAID_BACK,
    }
)


# So long after its end an order is looked at again, in µs: refills are promised for 30 days.
RECHECKS = (DAY, 3 * DAY, 7 * DAY, 30 * DAY)


def may_follow(before: OrderStatus | None, after: OrderStatus) -> bool:
    """Say whether an order whose panel said ``before`` (None: nothing yet) may be said to be ``after``."""
    return before not in FINAL or after is before or after in REOPENS.get(before, ())


class RefillStatus(StrEnum):
    """How a refill is doing, in the contract's v3 spelling."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


FINAL_REFILL = frozenset({RefillStatus.COMPLETED, RefillStatus.REJECTED})


class OrderState(StrEnum):
    """What is known of the purchase itself. SENDING is the first stored state; UNKNOWN is never sent again."""

    SENDING = "sending"
    PLACED = "placed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    NOT_PLACED = "not_placed"


# Who is in SENDING or UNKNOWN may have been bought. The way back from NOT_PLACED is the operator's: a panel had
# delivered after all.
MOVES: Mapping[OrderState, frozenset[OrderState]] = MappingProxyType(
    {
        OrderState.SENDING: frozenset({OrderState.PLACED, OrderState.REJECTED, OrderState.UNKNOWN}),
        OrderState.UNKNOWN: frozenset({OrderState.PLACED, OrderState.NOT_PLACED}),
        OrderState.NOT_PLACED: frozenset({OrderState.PLACED}),
        OrderState.PLACED: frozenset(),
        OrderState.REJECTED: frozenset(),
    }
)


class Source(StrEnum):
    """Who says that something became of an order."""

    REQUEST = "request"
    SWEEPER = "sweeper"
    SETTLEMENT = "settlement"
    PANEL = "panel"
    OPERATOR = "operator"


class Funding(StrEnum):
    """Whose money an order spends: the tenant's wallet here, or the account at the one provider."""

    WALLET = "wallet"
    PROVIDER = "provider"


class Ids(StrEnum):
    """How public service ids are made: provider's id × 1000 + provider number, or the provider's own."""

    GLOBAL = "global"
    NATIVE = "native"


# Public ids live in 32-bit columns of panel databases (contract 7).
MAX_ID = 2**31 - 1
MIN_ORDER_ID = 10**6
MAX_PROVIDER_NUMBER = 999


def random_id() -> int:
    """Draw the id of an order or a refill; the store draws again when it is taken (contract 7)."""
    return MIN_ORDER_ID + secrets.randbelow(MAX_ID + 1 - MIN_ORDER_ID)


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider: the operator's, or a tenant's own."""

    provider: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An upstream panel. ``interval`` is the µs between two calls (0: no limit), ``quiet`` in seconds.

    ``owner`` is the tenant with whose own key it is called, None for the operator's.
    """

    slug: str
    number: int
    dialect: str
    url: str
    interval: int = 0
    burst: int = 1
    concurrency: int | None = None
    batch: int = 100
    currency: str = "USD"
    fx: Decimal = Decimal(1)
    quiet: int = 600
    exclusive_key: bool = False
    enabled: bool = True
    owner: str | None = None

    @property
    def account(self) -> Account:
        """The account there that its calls are made with."""
        return Account(self.slug, self.owner)

    def called_by(self, owner: str | None) -> "Provider":
        """Return it as it is called with the key of a tenant's own account, or (None) with the operator's.

        The operator knows who orders with the operator's key, and with no other.
        """
        return replace(self, owner=owner, exclusive_key=self.exclusive_key and owner is None)

    def global_id(self, service: int) -> int:
        """Return the public id of one of its services for tenants with global ids (contract 7)."""
        return service * (MAX_PROVIDER_NUMBER + 1) + self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A reseller. ``interval`` and ``burst`` are its limit, as for a provider; ``dedupe`` in seconds.

    ``daily_spend`` is what its orders of one UTC day may cost, in micro-USD (None: no limit). ``own_keys`` are the
    providers that are called for it with a key of its own.
    """

    id: str
    active: bool = True
    funding: Funding = Funding.WALLET
    ids: Ids = Ids.GLOBAL
    interval: int = 100_000
    burst: int = 20
    markup: Decimal = Decimal(0)
    providers: frozenset[str] | None = None
    services: frozenset[int] | None = None
    origins: frozenset[str] = frozenset()
    require_idempotency: bool = False
    dedupe: int = 0
    daily_spend: int | None = None
    refuse_duplicate_link: bool = False
    own_keys: frozenset[str] = frozenset()

    def owner_at(self, provider: str) -> str | None:
        """Return who owns the account at a provider that buys its new orders: itself or (None) the operator."""
        return self.id if provider in self.own_keys else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one client key may do; None means no restriction beyond the tenant's own.

    ``key`` is the id of the key, empty for a client as such, and limits nothing. ``expires`` is when it ends (epoch
    µs), None for never. ``issuer``: its client has had a browser token when the key was admitted.
    """

    client: str
    actions: frozenset[str] | None = None
    providers: frozenset[str] | None = None
    networks: tuple[str, ...] = ()
    key: str = field(default="", compare=False)
    expires: int | None = None
    issuer: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A browser token: what a web page may do, beside and never beyond the client that asked for it.

    Attributes:
        id: what tells it from other tokens of its tenant; no secret.
        tenant: whose.
        scope: its client's, with the actions that the token was given.
        expires: when it ends (epoch µs).
        origin: of the one page that may use it; None: of any page that the tenant lists.
        services: the public ids of what it may order; None: whatever its client may.
        max_charge: what its orders may cost together, in micro-USD; None: no limit of its own.
        subject: the tenant's end customer whose orders it makes and sees; None: only those made with it.
        prices: whether it sees the balance, prices and charges.
    """

    id: str
    tenant: str
    scope: Scope
    expires: int
    origin: str | None = None
    services: frozenset[int] | None = None
    max_charge: int | None = None
    subject: str | None = None
    prices: bool = False

    @property
    def audience(self) -> str:
        """Who sees the orders that are made with it."""
        return f"token {self.id}" if self.subject is None else f"subject {self.subject}"

    @property
    def allowance(self) -> "Allowance | None":
        """What its orders count against."""
        return None if self.max_charge is None else Allowance(self.id, self.max_charge, self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The tenant's limit as it stands after this request; times in µs."""

    limit: int
    interval: int
    remaining: int
    reset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of one provider as the catalog keeps it; ``rate`` per 1000 in the provider's currency."""

    provider: str
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
    active: bool = True
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One permission to send. Only who holds ``token`` moves the order out of SENDING.

    ``send_by`` is the last moment (epoch µs) at which the first byte may be written; ``key_version`` names the
    version of the provider key that was used, or that is about to be, as far as the sender knows; never the key.
    """

    token: str
    send_by: int
    key_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The last word about a placed order; ``at`` is when it was read (epoch µs).

    ``charge`` is what the provider says that it charged, in its currency.
    """

    status: OrderStatus
    start_count: int | None
    remains: int | None
    at: int
    charge: Decimal | None = None
    posts: int | None = None
    expiry: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of an order's history: since ``at`` (epoch µs) it is ``now``, as ``source`` says."""

    at: int
    source: Source
    now: OrderState | OrderStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How far the settlement of an UNKNOWN order has come; times in epoch µs, by the settlement's clock.

    Attributes:
        since: when it was looked at first.
        looks: how often it was.
        due: when it is next.
        befores: the last marks of the account that are older than the order (``ports.Mark.at``), newest first.
        after: the first mark that was made when its request could no longer be on the way.
        next: the provider's numbers below this have been asked for.
        candidates: those of them that are orders and that nobody of ours had.
    """

    since: int
    looks: int = 0
    due: int = 0
    befores: tuple[int, ...] = ()
    after: int | None = None
    next: int | None = None
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """A refill that a panel accepted, under an id of ours; times in epoch µs.

    ``provider_refill`` is the panel's id of it, None where it gives none; then nobody can say how it is doing.
    ``own_key``: its order was bought with a key of the tenant's own.
    ``audience`` is its order's.
    """

    id: int
    tenant: str
    order: int
    provider: str
    provider_refill: int | None
    status: RefillStatus
    created: int
    at: int
    own_key: bool = False
    audience: str | None = None

    @property
    def account(self) -> Account:
        """The account at its provider that asked for it."""
        return Account(self.provider, self.tenant if self.own_key else None)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a tenant may spend on one UTC day (``2027-01-15``), in micro-USD."""

    day: str
    limit: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the orders of a browser token may cost together, in micro-USD, until it expires (epoch µs)."""

    token: str
    limit: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The gateway's own record of one ``add``: journal, idempotency record and status cache at once.

    Money in micro-USD, times in epoch µs. ``hold`` is what the wallet keeps back (0 for provider funding);
    ``claim`` is what this order alone may hold (an idempotency key, or its meaning within ``claim_window`` µs);
    ``refunded`` is what of ``charge`` went back; ``refund_open``: its panel has ended it without a word of what goes
    back, and nobody has decided yet; ``refund_decided`` is what the operator gave back then, None without such a
    decision; ``pending`` and ``refusal`` are the first answer, for replays;
    ``pending_order`` is the provider's id of an order that it has not confirmed yet; ``late_order`` the one under which
    it delivered what had proved not to be placed. ``provider_charge`` is what it said at once that it charged, in its
    currency. ``journal`` is the order's history, oldest first.

    ``link_claim`` stands for the service and the link that only one active order may have, ``budget`` for the day's
    limit that ``charge`` counts against; None where the tenant asked for no such guard. ``allowance`` is the limit of
    the browser token that it was made with, None where that has none. ``audience`` are the pages that see it beside the
    tenant's own programs, None if none do.

    ``quantity`` is per run; 1 for a package, the most that a post gets for a subscription. ``rate`` is what the tenant
    pays per 1000 (micro-USD), ``cost`` what the provider asks (its currency); both as they were at the order's time.
    A subscription keeps its hold after it was placed: ``held`` is what is left of it, ``spent`` what it was charged for
    itself when it ended (None before), ``children`` maps the provider's ids of the orders that it made to ours, and
    each of those names its ``parent``.

    ``attempts`` counts the permissions to send that there were: ``attempt`` is the last one, ``earlier_keys`` are the
    versions of the provider key that the ones before it used. An order that a subscription made had none.

    ``own_key``: it was bought with a key of the tenant's own, and whatever is asked about it is asked with that.
    """

    id: int
    tenant: str
    client: str
    provider: str
    service: int
    public_service: int
    type: str = "Default"
    link: str | None
    quantity: int
    runs: int | None
    interval: int | None
    charge: int
    rate: int
    cost: Decimal
    funding: Funding
    state: OrderState
    attempt: Attempt
    created: int
    updated: int
    fingerprint: str
    claim: str | None = None
    claim_window: int | None = None
    link_claim: str | None = None
    budget: Budget | None = None
    allowance: Allowance | None = None
    audience: str | None = None
    idempotency_key: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 1
    earlier_keys: tuple[str, ...] = ()
    provider_order: int | None = None
    provider_charge: Decimal | None = None
    pending_order: int | None = None
    late_order: int | None = None
    pending: bool = False
    reading: Reading | None = None
    evidence: tuple[str, ...] = ()
    journal: tuple[Change, ...] = ()
    search: Search | None = None
    refusal: Mapping[str, str] | None = None
    held: int | None = None
    spent: int | None = None
    refunded: int = 0
    refund_open: bool = False
    refund_decided: int | None = None
    children: Mapping[int, int] = field(default_factory=dict)
    parent: int | None = None
    own_key: bool = False

    @property
    def account(self) -> Account:
        """The account at its provider that bought it, and that alone knows it."""
        return Account(self.provider, self.tenant if self.own_key else None)

    @property
    def price(self) -> int:
        """Micro-USD that this order itself costs as far as is known: a subscription, what its orders do not cost."""
        return self.charge - self.refunded if self.held is None else self.held + (self.spent or 0)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it: nothing was bought, or its panel has said that it ended."""
        if self.state in (OrderState.REJECTED, OrderState.NOT_PLACED):
            return True
        return self.reading is not None and self.reading.status in FINAL

    @property
    def name(self) -> tuple[str, int]:
        """What tells it from all other orders: ids are its tenant's own."""
        return self.tenant, self.id

    @property
    def facts(self) -> dict[str, object]:
        """What the log says of it."""
        return {"order": self.id, "tenant": self.tenant, "provider": self.provider}

    @property
    def wallet_charge(self) -> int:
        """Micro-USD of the tenant's wallet that this order keeps back or has spent."""
        return self.charge if self.funding is Funding.WALLET else 0
