"""The use case: a command of a tenant in, its result out. It knows no technology.

``admit`` says who is calling, ``execute`` does what they ask: ``ordering`` takes an ``add`` and ``purchase`` says what
becomes of it, ``tracking`` follows placed orders, ``requesting`` asks for refills and cancellations, ``offering`` knows
services and prices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_address, ip_network
from itertools import islice

from chalicelib import money, testmode
from chalicelib.actions import Action, Balance, GetBalance
from chalicelib.batching import READ_TIME, Batcher, reading_patience
from chalicelib.calling import Caller
from chalicelib.clock import SECOND, Clock
from chalicelib.commands import (
    AddCommand,
    AnyCommand,
    BalanceCommand,
    CancelCommand,
    OrdersCommand,
    RefillCommand,
    RefillStatusCommand,
    ServicesCommand,
    StatusCommand,
    TokenCommand,
)
from chalicelib.errors import (
    Code,
    Refusal,
    SendFailure,
    Unavailable,
    UnreadableReply,
    try_later,
    unknown_key,
)
from chalicelib.issuing import Issued, Issuing
from chalicelib.keys import ClientKey, ShownKey, parse_browser_token, parse_client_key
from chalicelib.log import logger
from chalicelib.model import Funding, OrderState, Provider, Quota, Tenant, Token
from chalicelib.offering import Offering, Offers
from chalicelib.ordering import Ordering, key_claim
from chalicelib.ports import (
    Admitted,
    Catalog,
    Directory,
    Guesses,
    Orders,
    Providers,
    Refills,
    Stranger,
    Suspended,
    Throttled,
    Tokens,
    Wallet,
)
from chalicelib.purchase import Deadline, Receipt
from chalicelib.requesting import Requesting
from chalicelib.results import Batch, Found, Progress, Told, answer, last_known
from chalicelib.session import Session
from chalicelib.tracking import Tracking


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says they are calling: the key as given, the caller's address and, from a browser, the page's origin.

    ``for_pages``: they call the API that is open to web pages, and only there browser tokens are keys.
    """

    key: str = field(repr=False)
    address: str = ""
    origin: str | None = None
    for_pages: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """A caller that was not admitted. ``quota`` and ``tenant`` are known when the key was good."""

    refusal: Refusal
    quota: Quota | None = None
    tenant: Tenant | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """A balance."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class History:
    """A tenant's orders, newest first, as they were last seen; ``next`` is the cursor of the page after this one."""

    orders: Sequence[Progress]
    next: str | None


Result = Money | Offers | Receipt | Told | Batch | History | Issued

_GUESSING = "Too many wrong keys came from this address"
# A page that a filter thins out looks at no more orders than this, and no longer than a read; the caller goes on.
_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway; everything it needs is handed in. ``trial`` is the one that serves test mode."""

    directory: Directory
    guesses: Guesses
    tokens: Tokens
    providers: Providers
    orders: Orders
    refills: Refills
    wallet: Wallet
    catalog: Catalog
    caller: Caller
    clock: Clock
    trial: "Gateway | None" = None

    # -- who is calling ------------------------------------------------------------------------------------------

    def admit(self, credentials: Credentials, deadline: Deadline) -> Session | Denied:
        """Authenticate and limit a caller.

        Why a key is not good makes no difference, to the caller or to what is asked of the store.
        """
        shown, now = _shown(credentials), self.clock.now()
        if shown is None or self.guesses.is_wrong(shown, now=now):
            return Denied(unknown_key())
        until = self.guesses.barred(credentials.address, shown, now=now)
        if until is not None:
            return Denied(self._wait(_GUESSING, until))
        key = shown if isinstance(shown, ClientKey) else self.tokens.find(shown)
        admission = Stranger() if key is None else self.directory.admit(key, now=now)
        if isinstance(admission, Stranger):
            return Denied(self._stranger(credentials.address, shown, is_over=isinstance(key, Token)))
        self.guesses.right(shown)
        match admission:
            case Suspended(tenant, quota):
                return Denied(Refusal(Code.FORBIDDEN, "This account is suspended"), quota, tenant)
            case Throttled(tenant, quota, retry_at):
                return Denied(self._wait("Too many requests", retry_at), quota, tenant)
            case Admitted(tenant, scope, quota):
                is_test = isinstance(key, ClientKey) and key.test
                if is_test:
                    tenant, scope = testmode.as_tester(tenant, scope)
                token = key if isinstance(key, Token) else None
                session = Session(tenant, scope, quota, deadline, token, test=is_test)
                refusal = _out_of_bounds(session, credentials)
                return Denied(refusal, quota, tenant) if refusal else session

    def _stranger(self, address: str, shown: ShownKey, *, is_over: bool) -> Refusal:
        """Return the refusal of a key that is not good."""
        now = self.clock.now()
        # A token of ours that is over is no guess: many pages behind one address may still have theirs.
        until = None if is_over else self.guesses.guessed(address, shown, now=now)
        if until is not None:
            return self._wait(_GUESSING, until)
        self.guesses.wrong(shown, now=now)
        return unknown_key()

    def _wait(self, why: str, until: int) -> Refusal:
        """Return the refusal of a caller who may ask again at a time (epoch µs)."""
        wait = -(-(until - self.clock.now()) // SECOND)
        return Refusal(Code.RATE_LIMITED, why, retry_after=max(1, wait))

    def authorize(self, session: Session, action: Action) -> None:
        """Refuse an action that the caller's key does not cover.

        Raises:
            Refusal: `forbidden`.
        """
        if session.scope.actions is not None and action not in session.scope.actions:
            raise Refusal(Code.FORBIDDEN, f"This key may not use the action {action}")

    def execute(self, session: Session, command: AnyCommand) -> Result:
        """Do what an admitted caller asks.

        Raises:
            Refusal: with the contract's code.
            StoreBusy: the store came to no decision, and nothing was sent to a provider.
        """
        if not session.test:
            return self.serve(session, command)
        testmode.check(command)
        if self.trial is None:
            raise Refusal(Code.NOT_SUPPORTED, "There is no test mode here")
        return self.trial.serve(session, command)

    def serve(self, session: Session, command: AnyCommand) -> Result:
        """Do what a caller asks, with the parts that are at hand; see ``execute``."""
        match command:
            case AddCommand():
                return Ordering(self.offering, self.orders, self.caller, self.clock).add(session, command)
            case BalanceCommand():
                return self._balance(session)
            case ServicesCommand():
                return self.offering.offers(session, int(command.cursor or 0))
            case OrdersCommand():
                return self._history(session, command)
            case TokenCommand():
                return Issuing(self.tokens, self.offering, self.clock).issue(session, command)
            case StatusCommand() | RefillCommand() | RefillStatusCommand() | CancelCommand():
                return answer(command, self._found(session, command))

    def _found(
        self, session: Session, command: StatusCommand | RefillCommand | RefillStatusCommand | CancelCommand
    ) -> Found:
        batcher = Batcher(self.caller, self.providers)
        requesting = Requesting(self.orders, self.refills, batcher, self.clock)
        match command:
            case StatusCommand():
                return Tracking(self.orders, batcher, self.clock).statuses(session, command)
            case RefillCommand():
                return requesting.refill(session, command)
            case RefillStatusCommand():
                return requesting.refill_status(session, command)
            case CancelCommand():
                return requesting.cancel(session, command)

    @property
    def offering(self) -> Offering:
        """What tenants may order."""
        return Offering(self.providers, self.catalog)

    # -- reads ---------------------------------------------------------------------------------------------------

    def _balance(self, session: Session) -> Money:
        if session.tenant.funding is Funding.WALLET:
            return Money(money.amount(self.wallet.available(session.tenant.id)), "USD")
        provider = next(iter(self.offering.providers(session).values()), None)
        if provider is None:
            raise try_later(60)
        return self._balance_at(provider, session.deadline)

    def _balance_at(self, provider: Provider, deadline: Deadline) -> Money:
        now = self.clock.now()
        try:
            balance = self.caller.ask(provider, GetBalance(), reading_patience(now, deadline.ask).window(now))
        except (Unavailable, SendFailure, UnreadableReply) as error:
            facts = {"provider": provider.slug, "cause": f"{type(error).__name__}: {error}"}
            logger.warning("provider not read", extra={"facts": facts})
            raise try_later(getattr(error, "retry_after", 5)) from None
        if not isinstance(balance, Balance):
            raise try_later(5)
        return Money(balance.amount, balance.currency or provider.currency)

    def _history(self, session: Session, command: OrdersCommand) -> History:
        """Return a page of the caller's orders; what its filters leave out is looked at, but not returned."""
        tenant, now = session.tenant.id, self.clock.now()
        if command.idempotency_key is not None:
            first = self.orders.claimed(tenant, key_claim(session, command.idempotency_key))
            stream = iter([first] if first else [])
        else:
            audience, since = session.audience, command.since
            stream = self.orders.page(tenant, audience=audience, since=since, before=command.before)
        page: list[Progress] = []
        for looked_at, order in enumerate(islice(stream, _LOOKED_AT), start=1):
            progress = last_known(order, now)
            # What was rejected is no order; its key may have made one since.
            is_order = order.state is not OrderState.REJECTED and session.may_see(order)
            if is_order and command.status in (None, progress.ordinary_status):
                page.append(progress)
            if len(page) == command.limit or looked_at == _LOOKED_AT or self.clock.now() - now > READ_TIME:
                return History(page, None if next(stream, None) is None else f"{order.created}-{order.id}")
        return History(page, None)


def _shown(credentials: Credentials) -> ShownKey | None:
    """Return the well-formed key that a caller shows, of a kind that is one where they call."""
    client_key = parse_client_key(credentials.key)
    return parse_browser_token(credentials.key) if client_key is None and credentials.for_pages else client_key


def _out_of_bounds(session: Session, credentials: Credentials) -> Refusal | None:
    """Say no to a good key that is used from the wrong place."""
    token, networks = session.token, session.scope.networks
    listed = credentials.origin is None or credentials.origin in session.tenant.origins
    if not listed or (token is not None and token.origin not in (None, credentials.origin)):
        return Refusal(Code.FORBIDDEN, "This origin is not allowed")
    if networks and not _inside(credentials.address, networks):
        return Refusal(Code.FORBIDDEN, "This address is not allowed")
    return None


def _inside(address: str, networks: Sequence[str]) -> bool:
    try:
        caller = ip_address(address)
    except ValueError:
        return False
    return any(caller in ip_network(network) for network in networks)
