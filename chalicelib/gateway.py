"""The use case: a command of a tenant in, its result out. It knows no technology.

``admit`` says who is calling, ``execute`` does what they ask; what becomes of an accepted ``add`` is in ``purchase``.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from ipaddress import ip_address, ip_network

from chalicelib import money
from chalicelib.actions import Action, Balance, GetBalance, GetStatus, Status
from chalicelib.calling import Caller, Window, dialect_of
from chalicelib.commands import AddCommand, AnyCommand, BalanceCommand, ServicesCommand, StatusCommand
from chalicelib.errors import Code, Refusal, SendFailure, StoreBusy, Unavailable, UnreadableReply, try_later
from chalicelib.keys import parse_client_key
from chalicelib.log import logger
from chalicelib.model import (
    FINAL,
    MAX_PROVIDER_NUMBER,
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
    random_order_id,
)
from chalicelib.ports import (
    SECOND,
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
from chalicelib.purchase import ANSWER_TIME, RECORD_TIME, Deadline, Purchase, Receipt

# A read waits this long for a free slot of the provider's pace: spends come first (contract 8.7).
READ_PATIENCE = 2 * SECOND
# A read asks this long before it falls back on what it last knew.
READ_TIME = 10 * SECOND
# A live order's answer is at most this old (contract 4).
FRESH = 15 * SECOND
# After `send_by` a sender may still be reading its answer for this long, on a clock that may differ from ours.
SENDER_GONE = 85 * SECOND
# What all runs of a drip-feed may come to. DynamoDB keeps 38 digits, and the charge must fit at any rate.
MAX_UNITS = 10**15


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says they are calling: the key as given, the caller's address and, from a browser, the page's origin."""

    key: str = field(repr=False)
    address: str = ""
    origin: str | None = None


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
    return service if tenant.ids is Ids.NATIVE else provider.global_id(service)


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
                wait = -(-(retry_at - self.clock.now()) // SECOND)
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
            raise try_later(60)
        answer = self._read(provider, GetBalance(), session.deadline)
        if not isinstance(answer, Balance):
            raise try_later(5)
        return Money(answer.amount, answer.currency or provider.currency)

    def _services(self, session: Session, cursor: int) -> Offers:
        providers = self._providers(session)
        listings = self.catalog.listings(providers)
        offers = [
            Offer(number, rate, service)
            for slug, listing in listings.items()
            for service in listing.services
            if service.active
            and (number := public_id(session.tenant, providers[slug], service.id)) >= cursor
            and _listed(session.tenant, number)
            and (rate := _rate(session.tenant, providers[slug], service)) is not None
        ]
        versions = {slug: [listing.version, str(providers[slug].fx)] for slug, listing in sorted(listings.items())}
        terms = [
            versions,
            str(session.tenant.markup),
            session.tenant.ids,
            None if session.tenant.services is None else sorted(session.tenant.services),
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
            provider, draft = self._draft(session, command, fingerprint, claim)
        except Refusal:
            # The first answer stands, even if the service or its price has changed since.
            first = self.orders.claimed(tenant.id, claim) if command.idempotency_key and claim else None
            if first is None:
                raise
            return self._replay(first, fingerprint)
        match self._accept(draft, session.deadline):
            case Accepted(order):
                return Purchase(self.orders, self.caller, order, session.deadline).make(provider)
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
    ) -> tuple[Provider, Order]:
        """Check an order against the catalog and the tenant's terms, and write it out, not yet accepted."""
        tenant, now = session.tenant, self.clock.now()
        provider, service = self._service(session, command.service)
        _check_order(command, service, provider)
        charge = _charge(command, tenant, service, provider)
        send_by = session.deadline.ask - ANSWER_TIME
        if now >= send_by:
            raise try_later(1)
        order = Order(
            id=random_order_id(),
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
            claim_window=tenant.dedupe * SECOND if command.idempotency_key is None else None,
            idempotency_key=command.idempotency_key,
            extra=dict(command.extra),
        )
        return provider, order

    def _service(self, session: Session, number: int) -> tuple[Provider, Service]:
        """Find a service by its public id among those that the caller may use."""
        native = session.tenant.ids is Ids.NATIVE
        for provider in self._providers(session).values():
            own, owner = (number, provider.number) if native else divmod(number, MAX_PROVIDER_NUMBER + 1)
            if owner != provider.number or not _listed(session.tenant, number):
                continue
            service = self.catalog.service(provider.slug, own)
            if service is not None and service.active:
                return provider, service
        raise _no_such_service()

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
            if first.refusal is None:  # its key was freed between our look at the claim and at the order
                raise try_later(1)
            raise Refusal(Code(first.refusal["code"]), first.refusal["message"], replayed=True)
        return Receipt(first.id, first.charge, pending=first.pending, replayed=True)

    # -- status --------------------------------------------------------------------------------------------------

    def _status(self, session: Session, number: int) -> Progress:
        order = self.orders.get(session.tenant.id, number)
        allowed = session.scope.providers
        if order is None or (allowed is not None and order.provider not in allowed):
            raise Refusal(Code.ORDER_NOT_FOUND, "Incorrect order ID", field="order")
        if order.state is not OrderState.PLACED or order.provider_order is None:
            return _unsettled(order, self.clock.now())
        reading = order.reading
        if reading and (reading.status in FINAL or self.clock.now() - reading.at <= FRESH):
            return _progress(order, reading, stale=False)
        return self._refresh(order, order.provider_order, session.deadline)

    def _refresh(self, order: Order, provider_order: int, deadline: Deadline) -> Progress:
        """Ask the panel, or fall back on what it last said."""
        last = order.reading or Reading(status=OrderStatus.PENDING, start_count=None, remains=None, at=order.updated)
        provider = self.directory.providers().get(order.provider)
        try:
            answer = (
                self._read(provider, GetStatus(provider_order), deadline) if provider and provider.enabled else None
            )
        except Refusal:
            answer = None
        if not isinstance(answer, Status):
            logger.warning("status not refreshed", extra={"facts": {"order": order.id, "provider": order.provider}})
            return _progress(order, last, stale=True)
        known = answer.status if answer.status not in (None, OrderStatus.UNKNOWN) else None
        if known is None:
            logger.warning("unknown status", extra={"facts": {"order": order.id, "status": answer.raw_status[:64]}})
        status = known or (order.reading.status if order.reading else OrderStatus.UNKNOWN)
        # Some panels say that more remains than was ordered (protocol.md 1.5).
        remains = None if answer.remains is None else min(answer.remains, order.quantity * (order.runs or 1))
        reading = Reading(status=status, start_count=answer.start_count, remains=remains, at=self.clock.now())
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
            raise try_later(getattr(error, "retry_after", 5)) from None


def _unknown_key() -> Refusal:
    return Refusal(Code.INVALID_API_KEY, "Invalid API key")


def _no_such_service() -> Refusal:
    return Refusal(Code.SERVICE_NOT_FOUND, "There is no such service", field="service")


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


def _rate(tenant: Tenant, provider: Provider, service: Service) -> int | None:
    """Return the tenant's price per 1000 in micro-USD, None where it is beyond all reason."""
    try:
        return money.tenant_rate(service.rate, markup=tenant.markup, fx=provider.fx)
    except ValueError:
        return None


def _listed(tenant: Tenant, number: int) -> bool:
    return tenant.services is None or number in tenant.services


def _check_order(command: AddCommand, service: Service, provider: Provider) -> None:
    """Refuse, before anything is sent, what the panel would refuse."""
    if service.type != "Default":
        raise Refusal(Code.NOT_SUPPORTED, f"Services of the type {service.type} cannot be ordered here yet")
    if command.runs and (service.dripfeed is False or not _sends_dripfeed(provider)):
        raise Refusal(Code.NOT_SUPPORTED, "This service takes no drip-feed")
    if command.quantity < service.min:
        raise Refusal(Code.INVALID_QUANTITY, f"Quantity less than minimal {service.min}", field="quantity")
    if command.quantity > service.max:
        raise Refusal(Code.INVALID_QUANTITY, f"Quantity more than maximum {service.max}", field="quantity")
    if command.runs and command.quantity * command.runs > MAX_UNITS:
        raise Refusal(Code.INVALID_QUANTITY, "Incorrect quantity", field="runs")


def _charge(command: AddCommand, tenant: Tenant, service: Service, provider: Provider) -> int:
    """Return what an order costs the tenant, or refuse what it does not want to pay."""
    rate = _rate(tenant, provider, service)
    if rate is None:
        raise _no_such_service()
    charge = money.charge(rate, command.quantity * (command.runs or 1))
    if command.max_charge is not None and charge > money.micros(command.max_charge):
        raise Refusal(Code.PRICE_CHANGED, f"The price is now {money.text(charge)} USD, above max_charge")
    return charge


def _sends_dripfeed(provider: Provider) -> bool:
    try:
        return dialect_of(provider).capabilities.sends_dripfeed
    except Unavailable as error:
        raise try_later(error.retry_after) from None


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


def _unsettled(order: Order, now: int) -> Progress:
    """An order whose purchase is not known yet is pending; one that proved never to have been placed is canceled.

    The id of a REJECTED one is known only to a caller whom we could not tell the refusal.
    """
    if order.state in (OrderState.NOT_PLACED, OrderState.REJECTED):
        return Progress(replace(order, charge=0), OrderStatus.CANCELED, None, None, order.updated, stale=False)
    return Progress(order, OrderStatus.PENDING, None, None, order.updated, stale=now - order.updated > FRESH)


def _progress(order: Order, reading: Reading, *, stale: bool) -> Progress:
    return Progress(order, reading.status, reading.start_count, reading.remains, reading.at, stale)
