"""What the gateway asks of the world: small Protocols that the adapters satisfy by their shape.

Times are epoch microseconds unless a name says otherwise; money is in micro-USD. Every method may raise
``errors.StoreBusy`` when the store does not come to a decision before ``until``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from chalicelib.actions import Placed
from chalicelib.keys import ClientKey, ProviderKey, ShownKey, TokenKey
from chalicelib.model import (
    Account,
    Attempt,
    Order,
    Provider,
    Quota,
    Reading,
    Refill,
    Scope,
    Search,
    Service,
    Source,
    Tenant,
    Token,
)
from chalicelib.panels.dialect import Reply, Request


@dataclass(frozen=True, slots=True)
class Admitted:
    """The key is good and the tenant's limit has room."""

    tenant: Tenant
    scope: Scope
    quota: Quota


@dataclass(frozen=True, slots=True)
class Throttled:
    """The key is good; the tenant's limit has no room before ``retry_at``."""

    tenant: Tenant
    quota: Quota
    retry_at: int


@dataclass(frozen=True, slots=True)
class Suspended:
    """The key is good; the tenant is suspended."""

    tenant: Tenant
    quota: Quota


@dataclass(frozen=True, slots=True)
class Stranger:
    """No such key: unknown, wrong, revoked and expired look alike."""


Admission = Admitted | Throttled | Suspended | Stranger


class Providers(Protocol):
    """The providers' configuration."""

    def providers(self) -> Mapping[str, Provider]:
        """Return all providers by slug; the answer may be up to 30 s old."""


class Directory(Providers, Protocol):
    """Tenants, their client keys and limits, and the providers."""

    def admit(self, key: ClientKey | Token, *, now: int) -> Admission:
        """Authenticate a client key and take one request from its tenant's limit, in one conditional update.

        A browser token, which ``Tokens`` has authenticated, is admitted as long as its client is.
        """

    def origin_listed(self, origin: str, *, fresh: bool = False) -> bool:
        """Say whether an active tenant lists this web origin; unless ``fresh``, the answer may be up to 30 s old."""


class Guesses(Protocol):
    """How often an address has come with a key that nobody has, and what was found out of keys."""

    def is_wrong(self, key: ShownKey, *, now: int) -> bool:
        """Say whether a key was found to be wrong lately.

        It asks no store: it is what this container has learned. No key becomes good after that.
        """

    def barred(self, address: str, key: ShownKey, *, now: int) -> int | None:
        """Return until when an address may not try a key that is not known to be good, None if it may.

        It asks no store: it is what this container has learned.
        """

    def right(self, key: ShownKey) -> None:
        """Note that a key is good: no bar of an address is for it."""

    def wrong(self, key: ShownKey, *, now: int) -> None:
        """Note that a key is wrong."""

    def guessed(self, address: str, key: ShownKey, *, now: int) -> int | None:
        """Count a wrong key; return until when the address is barred, if it has been wrong too often.

        The same wrong key again is no new guess.
        """


class Tokens(Protocol):
    """The browser tokens."""

    def find(self, key: TokenKey) -> Token | None:
        """Return the token that a caller shows, if there is such a one; it may have expired."""

    def issue(self, token: Token, key: TokenKey, *, until: int) -> bool:
        """Store a token; False if the client key that asks for it (``token.scope.key``) is found to be gone.

        If its client is revoked meanwhile and that is not found, the token is refused like the client's others.
        """


class Pace(Protocol):
    """The providers' own limits."""

    def reserve(self, provider: Provider, *, holder: str, latest: int) -> int | None:
        """Reserve the next slot for a call, not after ``latest``; return its time, or None if all are taken."""

    def release(self, provider: Provider, *, holder: str) -> None:
        """Give back the concurrency that a reservation took."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order is stored, its money held, its claim taken."""

    order: Order


@dataclass(frozen=True, slots=True)
class Claimed:
    """Another order holds the claim."""

    order: Order


@dataclass(frozen=True, slots=True)
class LinkTaken:
    """An active order has this service and link."""


@dataclass(frozen=True, slots=True)
class OverAllowance:
    """The charge would pass what the browser token's orders may cost together."""


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The charge would pass what the tenant may spend on this day."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The wallet does not hold the charge."""


Acceptance = Accepted | Claimed | LinkTaken | OverAllowance | OverBudget | Broke


@dataclass(frozen=True, slots=True)
class Charged:
    """An order of ours at a provider, and what that charges for it, in its currency."""

    tenant: str
    order: int
    charge: Decimal

    @property
    def name(self) -> tuple[str, int]:
        """The order's name; see ``model.Order``."""
        return self.tenant, self.order


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the account at a provider stood at, and what was known of our orders there when it was read.

    Attributes:
        at: when (epoch µs).
        balance: in the provider's currency.
        top, top_after: the highest of its orders that was ours before and after the balance was read.
        charges: our orders that had not ended, by the provider's number.
        unsettled: tenant and id of our orders there whose purchase was not known after the balance was read. One that
            is not among them and is unsettled later was accepted later, whatever the clocks say.
    """

    at: int
    balance: Decimal
    top: int
    top_after: int
    charges: Mapping[int, Charged]
    unsettled: frozenset[tuple[str, int]]


class Accounts(Protocol):
    """The accounts at providers where nobody else orders with the key."""

    def marks(self, account: Account) -> Iterator[Mark]:
        """Yield the marks of the account that the key opens now, newest first; none is missing."""

    def get(self, account: Account, at: int) -> Mark | None:
        """Return the mark that was made at a time, if it is still kept and of the account that the key opens now."""

    def add(self, account: Account, mark: Mark, *, until: int) -> None:
        """Keep a mark."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A provider's order that is ours: its number there, whose it is, and when it was accepted and bound (epoch µs)."""

    number: int
    tenant: str
    order: int
    sent: int
    at: int

    @property
    def name(self) -> tuple[str, int]:
        """The name of our order; see ``model.Order``."""
        return self.tenant, self.order


class Orders(Protocol):
    """The orders' journal; see design.md 4 for the states and who may move them."""

    def accept(self, order: Order, *, until: int) -> Acceptance:
        """Store a SENDING order, hold its money, count it and take its claims in one transaction.

        The id of the order may be changed to a free one. What stands against it is told in the order of
        ``Acceptance``: a claim before a link, a link before its token's limit and the day's, those before the wallet.
        """

    def claimed(self, tenant: str, claim: str) -> Order | None:
        """Return the order that holds a claim."""

    def reattempt(self, order: Order, attempt: Attempt, *, until: int) -> Order | None:
        """Replace a SENDING order's attempt, if it is still ours to send."""

    def place(
        self,
        order: Order,
        placed: Placed,
        *,
        until: int,
        source: Source = Source.REQUEST,
        evidence: str | None = None,
    ) -> bool:
        """Record the purchase and spend the held money; False if the order is no longer this attempt's.

        An order that proved not to be placed keeps that, and the late purchase is noted on it.

        Raises:
            AlreadyBound: the provider's order belongs to another order of ours.
        """

    def reject(self, order: Order, refusal: Mapping[str, str] | None, *, until: int) -> bool:
        """Record that nothing was bought and give the money back; without a ``refusal`` the claim is freed too.

        What the order counted, on its day and for its token, is given back with the money.

        False if the caller cannot be told so: the order is no longer this attempt's, or it was called UNKNOWN
        meanwhile, then its money is back and its claim stays.
        """

    def lose(
        self,
        order: Order,
        evidence: str,
        *,
        until: int,
        source: Source = Source.REQUEST,
        provider_order: int | None = None,
    ) -> bool:
        """Record that the outcome is not known (SENDING to UNKNOWN)."""

    def give_up(self, order: Order, evidence: str, *, until: int, source: Source) -> bool:
        """Record that an UNKNOWN order was never placed, and give its money back; False if it is settled otherwise."""

    def look(self, order: Order, search: Search, evidence: Sequence[str], *, until: int) -> None:
        """Keep how far the settlement of an UNKNOWN order has come, and what it found out."""

    def unsettled(self, account: Account) -> Iterator[Order]:
        """Yield an account's orders whose purchase is not known, oldest first; none is missing.

        Among them are those NOT_PLACED ones that were delivered late.
        """

    def bound(self, account: Account) -> Iterator[Bound]:
        """Yield an account's orders that are ours, highest number first; none is missing."""

    def undecided(self, account: Account) -> Iterator[Order]:
        """Yield an account's orders that have ended without a word of what goes back, oldest first; none is missing."""

    def open(self, account: Account, *, before: int | None = None) -> Iterator[Order]:
        """Yield an account's placed orders that have not ended, those that are due by a time or all; some may lag."""

    def ended(self, account: Account, *, before: int) -> Iterator[Order]:
        """Yield an account's orders that have ended and are to be looked at again before a time; some may lag."""

    def postpone(self, order: Order, due: int | None, *, until: int) -> None:
        """Set when an order that may still change is looked at next; None: never again."""

    def get(self, tenant: str, order: int) -> Order | None:
        """Return an order of a tenant."""

    def get_many(self, tenant: str, orders: Iterable[int]) -> Mapping[int, Order]:
        """Return those of the orders that the tenant has, by id."""

    def page(
        self,
        tenant: str,
        *,
        audience: str | None = None,
        since: int | None = None,
        before: tuple[int, int] | None = None,
    ) -> Iterator[Order]:
        """Yield a tenant's orders, newest first; the newest may be missing for a moment.

        Args:
            tenant: whose.
            audience: only the orders of this audience.
            since: none older than this.
            before: when the order was created, and its id, after which to go on.
        """

    def adopt(self, parent: Order, child: Order, *, until: int) -> Order | None:
        """Store an order that a subscription made at its provider and charge it; return the subscription then.

        The charge comes out of the subscription's hold as far as that lasts, and out of the wallet beyond it. None if
        the wallet does not hold it.

        Raises:
            AlreadyBound: the provider's order is another order's.
        """

    def end_subscription(self, parent: Order, *, spent: int, until: int) -> Order:
        """Spend ``spent`` micro-USD of what a subscription still holds, and give the rest back, once.

        Return the subscription as it is then; it has not ended if a neighbour has just taken in another order.
        """

    def observe(self, order: Order, reading: Reading, *, refunded: int | None, until: int) -> Order:
        """Keep a status reading if it is newer than the stored one, and give back what it makes due, once.

        An end that does not tell what goes back is noted for the operator; a later reading that tells it ends the note.

        Args:
            order: as it was read; ``order.refunded`` went back before.
            reading: what its panel says of it.
            refunded: micro-USD of its charge that have gone back when this is done, None if the reading does not tell.
            until: when to give up.

        Returns:
            The order as it is then; a neighbour may have read later.
        """


class Refills(Protocol):
    """The refills that panels accepted."""

    def add(self, refill: Refill, *, until: int) -> Refill:
        """Store a refill under a free id, which may not be the given one, and return it."""

    def get_many(self, tenant: str, refills: Iterable[int]) -> Mapping[int, Refill]:
        """Return those of the refills that the tenant has, by id."""

    def observe(self, refill: Refill, *, until: int) -> None:
        """Keep how a refill is doing, if that was read later than what is stored."""


class Wallet(Protocol):
    """The tenants' money."""

    def available(self, tenant: str) -> int:
        """Return the balance in micro-USD without held money."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A provider's catalog as last synced; ``version`` changes whenever its content does."""

    version: str
    services: Sequence[Service]


class Catalog(Protocol):
    """The services of the providers."""

    def service(self, provider: str, service: int) -> Service | None:
        """Return one service, active or not; the answer may be up to 30 s old."""

    def listings(self, providers: Iterable[str]) -> Mapping[str, Listing]:
        """Return the catalogs of the providers that have one."""


class Vault(Protocol):
    """The provider keys."""

    def key(self, account: Account, *, until: int | None = None) -> ProviderKey:
        """Return the current key; the answer may be up to 60 s old.

        Raises:
            Unavailable: there is no key to be had, or not before ``until``.
        """

    def version_at_hand(self, account: Account) -> str:
        """Return the version of the key that the next call will most likely use, without asking anybody; or nothing."""

    def doubt(self, account: Account, key: ProviderKey) -> None:
        """Have the next call read the key anew, if it would use this one: its panel refused it, or something else."""

    def instead(
        self, account: Account, rejected: ProviderKey, *, until: int, is_sure: Callable[[], bool]
    ) -> Iterator[ProviderKey]:
        """Yield what to try in the place of a rejected key, in order; asking for the next one rejects the last.

        First the current key, read anew, if it is another one. Then a pending one that has proved itself. Then the
        one before, unless it was retired. There may be none, and none comes that could not be read before ``until``.
        Each time ``is_sure`` is asked whether it was surely the key that was rejected; where it may as well be the
        request nothing is held against the key.
        """

    def keep(self, account: Account, key: ProviderKey) -> None:
        """Use one of those for the next calls, too: the panel has taken it."""


class Sender(Protocol):
    """The one way to a panel; see ``upstream``."""

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        """Send a request; ``deadline`` and ``send_by`` in epoch seconds.

        Raises:
            NeverSent: nothing left this machine.
            AnswerLost: something did, and no whole reply came back.
        """
