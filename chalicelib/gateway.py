"""The use case: a command of a tenant in, its result out. It reads like design.md 5 and knows no technology.

Whatever happens to an ``add`` after it was accepted ends in one of four ways: placed, rejected (nothing was bought),
unknown (never sent again), or, if this process dies, SENDING until the sweeper calls it unknown.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from ipaddress import ip_address, ip_network

from chalicelib import money
from chalicelib.actions import Action, Balance, GetBalance, GetStatus, Placed, PlaceOrder, Reason, Refused, Status
from chalicelib.calling import MICROSECOND, Caller, Window, dialect_of
from chalicelib.commands import AddCommand, AnyCommand, BalanceCommand, ServicesCommand, StatusCommand
from chalicelib.errors import (
    AlreadyBound,
    AnswerLost,
    Code,
    NeverSent,
    Refusal,
    SendFailure,
    StoreBusy,
    Unavailable,
    UnreadableReply,
)
from chalicelib.keys import ProviderKey, parse_client_key
from chalicelib.log import logger
from chalicelib.model import (
    FINAL,
    MAX_PROVIDER_NUMBER,
    MIN_ORDER_ID,
    Attempt,
    Funding,
    Ids,
    Order,
    OrderState,
    OrderStatus,
    Provider,
    Quota,
    Reading,
    Scope,
    Service,
    Tenant,
)
from chalicelib.ports import (
    Acceptance,
    Accepted,
    Admitted,
    Broke,
    Catalog,
    Claimed,
    Clock,
    Directory,
    Orders,
    Stranger,
    Suspended,
    Throttled,
    Wallet,
)

# A panel gets at least this long to answer an `add`; later than that before the deadline none is started.
ANSWER_TIME = 6 * MICROSECOND
# What recording an outcome may take after the panel's deadline; with it a request ends before the 29 s of
# API Gateway: 25 s to ask, these, and the way back.
RECORD_TIME = 1_500_000
# A read waits this long for a free slot of the provider's pace: spends come first (contract 8.7).
READ_PATIENCE = 2 * MICROSECOND
# A read asks this long before it falls back on what it last knew.
READ_TIME = 10 * MICROSECOND
# A live order's answer is at most this old (contract 4).
FRESH = 15 * MICROSECOND
# After `send_by` a sender may still be reading its answer for this long, on a clock that may differ from ours.
SENDER_GONE = 85 * MICROSECOND
KEPT_EVIDENCE = 300

# What a provider's refusal of an `add` means to the caller. Those with a Retry-After are the operator's trouble, not
# the order's: nothing was bought, and the same key may try again.
_TEMPORARY: Mapping[Reason, int] = {
    Reason.BAD_KEY: 60,
    Reason.NO_FUNDS: 300,
    Reason.THROTTLED: 2,
    Reason.UNAVAILABLE: 60,
}
_PERMANENT: Mapping[Reason, tuple[Code, str]] = {
    Reason.SERVICE: (Code.SERVICE_NOT_FOUND, "This service is not available any more"),
    Reason.LINK: (Code.INVALID_LINK, "The link was not accepted for this service"),
    Reason.DUPLICATE_LINK: (
        Code.DUPLICATE_LINK,
        "You have active order with this link. Please wait until order being completed.",
    ),
    Reason.QUANTITY: (Code.INVALID_QUANTITY, "Incorrect quantity"),
    Reason.ORDER: (Code.ORDER_REFUSED, "The order was refused"),
    Reason.MALFORMED: (Code.ORDER_REFUSED, "The order was refused"),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says they are calling: the key as given, the caller's address and, from a browser, the page's origin."""

    key: str
    address: str = ""
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when a request may ask a panel (``ask``) and write the outcome down (``record``), in epoch µs."""

    ask: int

    @property
    def record(self) -> int:
        """The end of all store calls."""
        return self.ask + RECORD_TIME


@dataclass(frozen=True, slots=True)
class Session:
    """An admitted caller for the length of one request."""

    tenant: Tenant
    scope: Scope
    quota: Quota
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Denied:
    """A caller that was not admitted. ``quota`` is known when the key was good."""

    refusal: Refusal
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """A balance."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A service as a tenant sees it: under its public id, at its price per 1000 in micro-USD."""

    id: int
    rate: int
    service: Service


@dataclass(frozen=True, slots=True)
class Offers:
    """The services that a tenant may order, by rising id from the cursor on; ``etag`` names this very list."""

    offers: Sequence[Offer]
    etag: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """An order was taken: ``charged`` in micro-USD; ``pending`` when it is not known yet whether it was placed."""

    order: int
    charged: int
    pending: bool
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How an order is doing; ``updated`` in epoch µs; ``stale``: the panel could not be asked just now."""

    order: Order
    status: OrderStatus
    start_count: int | None
    remains: int | None
    updated: int
    stale: bool


Result = Money | Offers | Receipt | Progress


def public_id(tenant: Tenant, provider: Provider, service: int) -> int:
    """Return the service id that a tenant sees (contract 7)."""
    return service if tenant.ids is Ids.NATIVE else service * (MAX_PROVIDER_NUMBER + 1) + provider.number


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway; everything it needs is handed in."""

    directory: Directory
    orders: Orders
    wallet: Wallet
    catalog: Catalog
    caller: Caller
    clock: Clock

    # -- who is calling ------------------------------------------------------------------------------------------

    def admit(self, credentials: Credentials, deadline: Deadline) -> Session | Denied:
        """Authenticate and limit a caller."""
        key = parse_client_key(credentials.key)
        if key is None:
            return Denied(_unknown_key())
        admission = self.directory.admit(key, now=self.clock.now())
        match admission:
            case Stranger():
                return Denied(_unknown_key())
            case Suspended(quota):
                return Denied(Refusal(Code.FORBIDDEN, "This account is suspended"), quota)
            case Throttled(quota, retry_at):
                wait = -(-(retry_at - self.clock.now()) // MICROSECOND)
                return Denied(Refusal(Code.RATE_LIMITED, "Too many requests", retry_after=max(1, wait)), quota)
            case Admitted(tenant, scope, quota):
                refusal = _out_of_bounds(tenant, scope, credentials)
                return Denied(refusal, quota) if refusal else Session(tenant, scope, quota, deadline)

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
        match command:
            case AddCommand():
                return self._add(session, command)
            case StatusCommand():
                return self._status(session, command.order)
            case ServicesCommand():
                return self._services(session, int(command.cursor or 0))
            case BalanceCommand():
                return self._balance(session)

    # -- balance and services ------------------------------------------------------------------------------------

    def _balance(self, session: Session) -> Money:
        if session.tenant.funding is Funding.WALLET:
            return Money(money.amount(self.wallet.available(session.tenant.id)), "USD")
        provider = next(iter(self._providers(session).values()), None)
        if provider is None:
            raise _try_later(60)
        answer = self._read(provider, GetBalance(), session.deadline)
        if not isinstance(answer, Balance):
            raise _try_later(5)
        return Money(answer.amount, answer.currency or provider.currency)

    def _services(self, session: Session, cursor: int) -> Offers:
        providers = self._providers(session)
        listings = self.catalog.listings(providers)
        offers = [
            Offer(number, _rate(session.tenant, providers[slug], service), service)
            for slug, listing in listings.items()
            for service in listing.services
            if service.active
            and (number := public_id(session.tenant, providers[slug], service.id)) >= cursor
            and _listed(session.tenant, number)
        ]
        versions = {slug: [listing.version, str(providers[slug].fx)] for slug, listing in sorted(listings.items())}
        terms = [
            versions,
            str(session.tenant.markup),
            session.tenant.ids,
            sorted(session.tenant.services or ()),
            cursor,
        ]
        return Offers(sorted(offers, key=lambda offer: offer.id), _digest(terms)[:32])

    def _providers(self, session: Session) -> Mapping[str, Provider]:
        """Return the enabled providers that both the tenant and the key may use."""
        return {
            slug: provider
            for slug, provider in self.directory.providers().items()
            if provider.enabled
            and (session.tenant.providers is None or slug in session.tenant.providers)
            and (session.scope.providers is None or slug in session.scope.providers)
        }

    # -- add -----------------------------------------------------------------------------------------------------

    def _add(self, session: Session, command: AddCommand) -> Receipt:
        tenant = session.tenant
        if tenant.require_idempotency and command.idempotency_key is None:
            raise Refusal(Code.INVALID_REQUEST, "This account requires an Idempotency-Key for add")
        fingerprint = _fingerprint(command)
        claim = _claim(tenant, command, fingerprint)
        try:
            provider, call, draft = self._draft(session, command, fingerprint, claim)
        except Refusal:
            # The first answer stands, even if the service or its price has changed since.
            first = self.orders.claimed(tenant.id, claim) if command.idempotency_key and claim else None
            if first is None:
                raise
            return self._replay(first, fingerprint)
        match self._accept(draft, session.deadline):
            case Accepted(order):
                return self._purchase(provider, call, order, session.deadline)
            case Claimed(first):
                return self._replay(first, fingerprint)
            case Broke():
                raise Refusal(Code.INSUFFICIENT_FUNDS, "Not enough funds on balance")

    def _accept(self, draft: Order, deadline: Deadline) -> Acceptance:
        """Accept an order, or make sure, as far as the store answers at all, that nothing of it stays."""
        try:
            return self.orders.accept(draft, until=draft.attempt.send_by)
        except StoreBusy:
            # A reply may have been lost, and with it an accepted order that will never be sent.
            self.orders.reject(draft, None, until=deadline.record)
            raise

    def _draft(
        self, session: Session, command: AddCommand, fingerprint: str, claim: str | None
    ) -> tuple[Provider, PlaceOrder, Order]:
        """Check an order against the catalog and the tenant's terms, and write it out, not yet accepted."""
        tenant, now = session.tenant, self.clock.now()
        provider, service = self._service(session, command.service)
        _check_order(command, service, provider)
        charge = money.charge(_rate(tenant, provider, service), command.quantity * (command.runs or 1))
        if command.max_charge is not None and charge > money.micros(command.max_charge):
            raise Refusal(Code.PRICE_CHANGED, f"The price is now {money.text(charge)} USD, above max_charge")
        send_by = session.deadline.ask - ANSWER_TIME
        if now >= send_by:
            raise _try_later(1)
        call = PlaceOrder(
            service.id, command.link, command.quantity, command.runs, command.interval, dict(command.extra)
        )
        order = Order(
            id=_random_id(),
            tenant=tenant.id,
            client=session.scope.client,
            provider=provider.slug,
            service=service.id,
            public_service=command.service,
            link=command.link,
            quantity=command.quantity,
            runs=command.runs,
            interval=command.interval,
            charge=charge,
            funding=tenant.funding,
            state=OrderState.SENDING,
            attempt=Attempt(token=secrets.token_hex(16), send_by=send_by),
            created=now,
            updated=now,
            fingerprint=fingerprint,
            claim=claim,
            claim_window=tenant.dedupe * MICROSECOND if command.idempotency_key is None else None,
            idempotency_key=command.idempotency_key,
            extra=dict(command.extra),
        )
        return provider, call, order

    def _service(self, session: Session, number: int) -> tuple[Provider, Service]:
        """Find a service by its public id among those that the caller may use."""
        for provider in self._providers(session).values():
            native = session.tenant.ids is Ids.NATIVE
            own, of_provider = (number, True) if native else (number // 1000, number % 1000 == provider.number)
            if not of_provider or not _listed(session.tenant, number):
                continue
            service = self.catalog.service(provider.slug, own)
            if service is not None and service.active:
                return provider, service
        raise Refusal(Code.SERVICE_NOT_FOUND, "There is no such service", field="service")

    def _purchase(self, provider: Provider, call: PlaceOrder, order: Order, deadline: Deadline) -> Receipt:
        """Send an accepted order, once, and record what became of it."""
        purchase = _Purchase(self.orders, order, deadline.record)
        window = Window(slot_by=order.attempt.send_by, send_by=order.attempt.send_by, deadline=deadline.ask)
        try:
            answer = self.caller.ask(provider, call, window, before=purchase.start)
        except (Unavailable, NeverSent, StoreBusy) as error:  # StoreBusy: a second attempt could not be noted
            return purchase.not_sent(error)
        except (AnswerLost, UnreadableReply) as error:
            return purchase.unknown(f"{type(error).__name__}: {error}")
        match answer:
            case Placed():
                return purchase.placed(answer)
            case Refused():
                return purchase.refused(answer)
            case _:
                return purchase.unknown(f"an answer of the wrong kind: {type(answer).__name__}")

    def _replay(self, first: Order, fingerprint: str) -> Receipt:
        """Give the first answer again (contract 5)."""
        if first.fingerprint != fingerprint:
            raise Refusal(Code.IDEMPOTENCY_KEY_REUSED, "This idempotency key was used for another order")
        if first.state is OrderState.SENDING:
            if self.clock.now() <= first.attempt.send_by + SENDER_GONE:
                raise Refusal(Code.REQUEST_IN_PROGRESS, "The first request with this key still runs", retry_after=2)
            self.orders.lose(first, "its sender was not heard of again", until=self.clock.now() + RECORD_TIME)
            return Receipt(first.id, first.charge, pending=True, replayed=True)
        if first.state is OrderState.REJECTED:
            refusal = first.refusal or {}
            raise Refusal(
                Code(refusal.get("code", Code.ORDER_REFUSED)),
                refusal.get("message", "The order was refused"),
                replayed=True,
            )
        return Receipt(first.id, first.charge, pending=first.pending, replayed=True)

    # -- status --------------------------------------------------------------------------------------------------

    def _status(self, session: Session, number: int) -> Progress:
        order = self.orders.get(session.tenant.id, number)
        if order is None or order.state is OrderState.REJECTED:
            raise Refusal(Code.ORDER_NOT_FOUND, "Incorrect order ID", field="order")
        if order.state is not OrderState.PLACED or order.provider_order is None:
            return _unsettled(order)
        reading = order.reading
        if reading and (reading.status in FINAL or self.clock.now() - reading.at <= FRESH):
            return _progress(order, reading, stale=False)
        return self._refresh(order, order.provider_order, session.deadline)

    def _refresh(self, order: Order, provider_order: int, deadline: Deadline) -> Progress:
        """Ask the panel, or fall back on what it last said."""
        last = order.reading or Reading(status=OrderStatus.PENDING, start_count=None, remains=None, at=order.updated)
        provider = self.directory.providers().get(order.provider)
        try:
            answer = None if provider is None else self._read(provider, GetStatus(provider_order), deadline)
        except Refusal:
            answer = None
        if not isinstance(answer, Status):
            logger.warning("status not refreshed", extra={"facts": {"order": order.id, "provider": order.provider}})
            return _progress(order, last, stale=True)
        known = answer.status if answer.status not in (None, OrderStatus.UNKNOWN) else None
        if known is None:
            logger.warning("unknown status", extra={"facts": {"order": order.id, "status": answer.raw_status[:64]}})
        status = known or (order.reading.status if order.reading else OrderStatus.UNKNOWN)
        reading = Reading(status=status, start_count=answer.start_count, remains=answer.remains, at=self.clock.now())
        try:
            self.orders.observe(order, reading, until=deadline.record)
        except StoreBusy:
            logger.warning("reading not kept", extra={"facts": {"order": order.id}})
        return _progress(order, reading, stale=False)

    def _read(self, provider: Provider, call: GetBalance | GetStatus, deadline: Deadline) -> object:
        """Ask a panel something that costs nothing.

        Raises:
            Refusal: `service_unavailable`.
        """
        now = self.clock.now()
        end = min(now + READ_TIME, deadline.ask)
        window = Window(slot_by=min(now + READ_PATIENCE, end), send_by=end, deadline=end)
        try:
            return self.caller.ask(provider, call, window)
        except (Unavailable, SendFailure, UnreadableReply) as error:
            facts = {"provider": provider.slug, "cause": f"{type(error).__name__}: {error}"}
            logger.warning("provider not read", extra={"facts": facts})
            raise _try_later(getattr(error, "retry_after", 5)) from None


class _Purchase:
    """The recording half of one ``add``: holds the attempt, and turns each outcome into a record and an answer."""

    def __init__(self, orders: Orders, order: Order, until: int) -> None:
        self._orders = orders
        self._order = order
        self._until = until

    def start(self, key: ProviderKey, number: int) -> None:
        """Note which key version is used; a second try, after a rejected key, is a new attempt."""
        attempt = replace(self._order.attempt, key_version=key.version)
        if number == 1:
            self._order = replace(self._order, attempt=attempt)
            return
        attempt = replace(attempt, token=secrets.token_hex(16))
        current = self._orders.reattempt(self._order, attempt, until=attempt.send_by)
        if current is None:
            cause = "the order was settled meanwhile"
            raise AnswerLost(cause)
        self._order = current

    def placed(self, placed: Placed) -> Receipt:
        order = self._order
        if placed.warning:
            logger.error("odd receipt", extra={"facts": self._facts(placed.warning, provider_order=placed.order)})
        if placed.pending:
            return self.unknown("the provider confirms later", provider_order=placed.order)
        try:
            if self._orders.place(order, placed, until=self._until):
                return Receipt(order.id, order.charge, pending=False)
            cause = "the order was settled meanwhile"
        except AlreadyBound:
            return self.unknown(f"the provider named its order {placed.order}, which belongs to another order")
        except StoreBusy as error:
            cause = str(error)
        # Bought, and not written down: the settlement finds it by its evidence. This line is evidence too.
        logger.error("purchase not recorded", extra={"facts": self._facts(cause, provider_order=placed.order)})
        return Receipt(order.id, order.charge, pending=True)

    def refused(self, refused: Refused) -> Receipt:
        order = self._order
        logger.warning(
            "order refused", extra={"facts": self._facts(refused.text[:KEPT_EVIDENCE], reason=refused.reason)}
        )
        if refused.reason in _TEMPORARY:
            self._reject(None)
            raise _try_later(_TEMPORARY[refused.reason])
        code, message = _PERMANENT[refused.reason]
        if not self._reject({"code": code, "message": message, "text": refused.text[:KEPT_EVIDENCE]}):
            return Receipt(order.id, order.charge, pending=True)
        raise Refusal(code, message)

    def not_sent(self, error: Unavailable | NeverSent | StoreBusy) -> Receipt:
        logger.warning("order not sent", extra={"facts": self._facts(str(error))})
        if not self._reject(None):
            return Receipt(self._order.id, self._order.charge, pending=True)
        raise _try_later(getattr(error, "retry_after", 5))

    def unknown(self, evidence: str, *, provider_order: int | None = None) -> Receipt:
        order = self._order
        logger.error("outcome unknown", extra={"facts": self._facts(evidence[:KEPT_EVIDENCE])})
        try:
            self._orders.lose(order, evidence[:KEPT_EVIDENCE], until=self._until, provider_order=provider_order)
        except StoreBusy as error:
            # The order stays SENDING, and the sweeper will call it unknown.
            logger.warning("unknown outcome not recorded", extra={"facts": self._facts(str(error))})
        return Receipt(order.id, order.charge, pending=True)

    def _reject(self, refusal: Mapping[str, str] | None) -> bool:
        """Give the money back; False when that could not be written, and the order stays to be settled."""
        try:
            return self._orders.reject(self._order, refusal, until=self._until)
        except StoreBusy as error:
            logger.error("refusal not recorded", extra={"facts": self._facts(str(error))})
            return False

    def _facts(self, cause: str, **more: object) -> dict[str, object]:
        order = self._order
        return {"order": order.id, "tenant": order.tenant, "provider": order.provider, "cause": cause, **more}


def _unknown_key() -> Refusal:
    return Refusal(Code.INVALID_API_KEY, "Invalid API key")


def _try_later(seconds: int) -> Refusal:
    return Refusal(Code.SERVICE_UNAVAILABLE, "Service temporarily unavailable", retry_after=seconds)


def _out_of_bounds(tenant: Tenant, scope: Scope, credentials: Credentials) -> Refusal | None:
    """Say no to a good key that is used from the wrong place."""
    if credentials.origin is not None and credentials.origin not in tenant.origins:
        return Refusal(Code.FORBIDDEN, "This origin is not allowed")
    if scope.networks and not _inside(credentials.address, scope.networks):
        return Refusal(Code.FORBIDDEN, "This address is not allowed")
    return None


def _inside(address: str, networks: Sequence[str]) -> bool:
    try:
        caller = ip_address(address)
    except ValueError:
        return False
    return any(caller in ip_network(network) for network in networks)


def _rate(tenant: Tenant, provider: Provider, service: Service) -> int:
    """Return the tenant's price per 1000 in micro-USD."""
    return money.tenant_rate(service.rate, markup=tenant.markup, fx=provider.fx)


def _listed(tenant: Tenant, number: int) -> bool:
    return tenant.services is None or number in tenant.services


def _check_order(command: AddCommand, service: Service, provider: Provider) -> None:
    """Refuse, before anything is sent, what the panel would refuse."""
    if service.type != "Default":
        raise Refusal(Code.NOT_SUPPORTED, f"Services of the type {service.type} cannot be ordered here yet")
    if command.runs and not dialect_of(provider).capabilities.sends_dripfeed:
        raise Refusal(Code.NOT_SUPPORTED, "This service takes no drip-feed")
    if command.quantity < service.min:
        raise Refusal(Code.INVALID_QUANTITY, f"Quantity less than minimal {service.min}", field="quantity")
    if command.quantity > service.max:
        raise Refusal(Code.INVALID_QUANTITY, f"Quantity more than maximum {service.max}", field="quantity")
    if command.runs and command.quantity * command.runs > 10**15:
        raise Refusal(Code.INVALID_QUANTITY, "Incorrect quantity", field="runs")


def _random_id() -> int:
    """Draw an order id; the store draws again when it is taken (contract 7)."""
    return MIN_ORDER_ID + secrets.randbelow(2**31 - MIN_ORDER_ID)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _fingerprint(command: AddCommand) -> str:
    """Return what an order means, however it was written: v2 text and v3 numbers compare equal."""
    return _digest(
        [command.service, command.link, command.quantity, command.runs, command.interval, dict(command.extra)]
    )


def _claim(tenant: Tenant, command: AddCommand, fingerprint: str) -> str | None:
    """Return what may belong to one order only: the idempotency key or, within the window, the order's meaning."""
    if command.idempotency_key is not None:
        return "KEY#" + hashlib.sha256(command.idempotency_key.encode()).hexdigest()
    return f"SAME#{fingerprint}" if tenant.dedupe else None


def _unsettled(order: Order) -> Progress:
    """An order whose purchase is not known yet is pending; one that proved never to have been placed is canceled."""
    gone = order.state is OrderState.NOT_PLACED
    status = OrderStatus.CANCELED if gone else OrderStatus.PENDING
    return Progress(order, status, None, None, order.updated, stale=False)


def _progress(order: Order, reading: Reading, *, stale: bool) -> Progress:
    return Progress(order, reading.status, reading.start_count, reading.remains, reading.at, stale)
