"""An ``add``: checked, accepted once, and handed to ``purchase``; or the answer that its key has had before."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chalicelib import money
from chalicelib.calling import Caller, dialect_of
from chalicelib.clock import SECOND, Clock
from chalicelib.commands import AddCommand
from chalicelib.errors import Code, Refusal, StoreBusy, Unavailable, try_later
from chalicelib.model import (
    Allowance,
    Attempt,
    Budget,
    Change,
    Order,
    OrderState,
    Provider,
    Service,
    Source,
    Tenant,
    random_id,
)
from chalicelib.offering import Offering, digest
from chalicelib.order_types import SUBSCRIPTIONS, Terms, meaning, read_terms
from chalicelib.ports import (
    Acceptance,
    Accepted,
    Broke,
    Claimed,
    LinkTaken,
    Orders,
    OverAllowance,
    OverBudget,
)
from chalicelib.purchase import ACTIVE_LINK, ANSWER_TIME, RECORD_TIME, Deadline, Purchase, Receipt
from chalicelib.session import Session

# After `send_by` a sender may still be reading its answer for this long, on a clock that may differ from ours.
SENDER_GONE = 85 * SECOND
# What a caller is told of what stands against an order.
_AGAINST: Mapping[type[LinkTaken | OverAllowance | OverBudget | Broke], tuple[Code, str]] = {
    LinkTaken: ACTIVE_LINK,
    OverAllowance: (Code.SPEND_LIMIT_REACHED, "This would pass what this token may spend"),
    OverBudget: (Code.SPEND_LIMIT_REACHED, "This would pass the day's spending limit; days end at midnight UTC"),
    Broke: (Code.INSUFFICIENT_FUNDS, "Not enough funds on balance"),
}
# A web address or `host/path`: where it is, the path there, and what follows the path.
_ADDRESS = re.compile(r"((?i:https?)://[^/?#]+|[^/?#]+(?=/))([^?#]*)(.*)")


@dataclass(frozen=True, slots=True)
class Ordering:
    """Takes orders; everything it needs is handed in."""

    offering: Offering
    orders: Orders
    caller: Caller
    clock: Clock

    def add(self, session: Session, command: AddCommand) -> Receipt:
        """Buy once.

        Raises:
            Refusal: with the contract's code; nothing was bought.
        """
        tenant = session.tenant
        if tenant.require_idempotency and command.idempotency_key is None:
            raise Refusal(Code.INVALID_REQUEST, "This account requires an Idempotency-Key for add")
        if command.max_charge is not None and not session.sees_prices:
            # Tried out, it would tell the price.
            raise Refusal(Code.FORBIDDEN, "This token does not see prices, so it takes no max_charge")
        try:
            provider, draft = self._draft(session, command)
        except Refusal:
            # The first answer stands, even if the service or its price has changed since.
            key = command.idempotency_key
            first = self.orders.claimed(tenant.id, key_claim(session, key)) if key is not None else None
            if first is None:
                raise
            return self._replay(first, command)
        match self._accept(draft, session.deadline):
            case Accepted(order):
                return Purchase(self.orders, self.caller, order, session.deadline).make(provider)
            case Claimed(first):
                return self._replay(first, command)
            case obstacle:
                raise Refusal(*_AGAINST[type(obstacle)])

    def _accept(self, draft: Order, deadline: Deadline) -> Acceptance:
        """Accept an order, or make sure, as far as the store answers at all, that nothing of it stays."""
        try:
            return self.orders.accept(draft, until=draft.attempt.send_by)
        except StoreBusy:
            # A reply may have been lost, and with it an accepted order that will never be sent.
            self.orders.reject(draft, None, until=deadline.record)
            raise

    def _draft(self, session: Session, command: AddCommand) -> tuple[Provider, Order]:
        """Check an order against the catalog and the tenant's terms, and write it out, not yet accepted."""
        tenant, now = session.tenant, self.clock.now()
        provider, service, rate = self.offering.find(session, command.service)
        _check_dialect(command, service, provider)
        terms = read_terms(command, service)
        charge = _charge(command, terms, rate)
        send_by = session.deadline.ask - ANSWER_TIME
        if now >= send_by:
            raise try_later(1)
        fingerprint = _fingerprint(command, service.type)
        order = Order(
            id=random_id(),
            tenant=tenant.id,
            client=session.scope.client,
            provider=provider.slug,
            service=service.id,
            public_service=command.service,
            type=service.type,
            link=terms.link,
            quantity=terms.quantity,
            runs=terms.runs,
            interval=terms.interval,
            charge=charge,
            rate=rate,
            cost=service.rate,
            funding=tenant.funding,
            state=OrderState.SENDING,
            # If its sender dies, nobody else can say which key it used.
            attempt=Attempt(
                token=secrets.token_hex(16),
                send_by=send_by,
                key_version=self.caller.vault.version_at_hand(provider.account),
            ),
            created=now,
            updated=now,
            fingerprint=fingerprint,
            claim=_claim(session, command, fingerprint),
            claim_window=tenant.dedupe * SECOND if command.idempotency_key is None else None,
            link_claim=_link_claim(tenant, command.service, terms.link),
            budget=_budget(tenant, now),
            allowance=_allowance(session, terms),
            audience=session.audience,
            idempotency_key=command.idempotency_key,
            extra=terms.extra,
            own_key=provider.owner is not None,
            journal=(Change(now, Source.REQUEST, OrderState.SENDING),),
        )
        return provider, replace(order, held=charge) if service.type == SUBSCRIPTIONS else order

    def _replay(self, first: Order, command: AddCommand) -> Receipt:
        """Give the first answer again (contract 5)."""
        if first.fingerprint != _fingerprint(command, first.type):
            raise Refusal(Code.IDEMPOTENCY_KEY_REUSED, "This idempotency key was used for another order")
        if first.state is OrderState.SENDING:
            if self.clock.now() <= first.attempt.send_by + SENDER_GONE:
                raise Refusal(Code.REQUEST_IN_PROGRESS, "The first request with this key still runs", retry_after=2)
            until = self.clock.now() + RECORD_TIME
            self.orders.lose(first, "its sender was not heard of again", until=until, source=Source.SWEEPER)
            return Receipt(first.id, first.charge, pending=True, replayed=True)
        if first.state is OrderState.REJECTED:
            if first.refusal is None:  # its key was freed between our look at the claim and at the order
                raise try_later(1)
            refusal = first.refusal
            raise Refusal(
                Code(refusal["code"]), refusal["message"], replayed=True, request_id=refusal.get("request_id")
            )
        return Receipt(first.id, first.charge, pending=first.pending, replayed=True)


def _check_dialect(command: AddCommand, service: Service, provider: Provider) -> None:
    """Refuse what the provider's dialect cannot say."""
    try:
        capabilities = dialect_of(provider).capabilities
    except Unavailable as error:
        raise try_later(error.retry_after) from None
    if capabilities.types is not None and service.type not in capabilities.types:
        raise Refusal(Code.NOT_SUPPORTED, "Services of this type cannot be ordered at this provider")
    # A panel whose list does not mention drip-feed ignores the two fields: one run, and the price of all.
    if command.runs and not (service.dripfeed and capabilities.sends_dripfeed):
        raise Refusal(Code.NOT_SUPPORTED, "This service takes no drip-feed")


def _charge(command: AddCommand, terms: Terms, rate: int) -> int:
    """Return what an order costs the tenant, or refuse what it does not want to pay."""
    charge = terms.charge(rate)
    if command.max_charge is not None and charge > money.micros(command.max_charge):
        raise Refusal(Code.PRICE_CHANGED, f"The price is now {money.text(charge)} USD, above max_charge")
    return charge


def key_claim(session: Session, key: str) -> str:
    """Return the claim that an order with an idempotency key holds.

    The tenant's programs share one name space, and each claimant has its own: a page must neither learn nor block what
    another's key has made. No key holds a NUL.
    """
    name = key if session.claimant is None else f"{session.claimant}\0{key}"
    return "KEY#" + hashlib.sha256(name.encode()).hexdigest()


def _fingerprint(command: AddCommand, type_name: str) -> str:
    return digest(dict(meaning(command, type_name)))


def _claim(session: Session, command: AddCommand, fingerprint: str) -> str | None:
    """Return what may belong to one order only: the idempotency key or, within the window, the order's meaning."""
    if command.idempotency_key is not None:
        return key_claim(session, command.idempotency_key)
    if not session.tenant.dedupe:
        return None
    return "SAME#" + (fingerprint if session.claimant is None else digest([session.claimant, fingerprint]))


def _link_claim(tenant: Tenant, service: int, link: str | None) -> str | None:
    """Return what only one active order may have, if the tenant wants that: a service and a link.

    A subscription has no link, and may be one of several of a user name.
    """
    if link is None or not tenant.refuse_duplicate_link:
        return None
    return hashlib.sha256(f"{service} {_target(link)}".encode()).hexdigest()


def _target(link: str) -> str:
    """Return a link in the one spelling of all that mean the same: hosts have no case, and a last slash says nothing.

    Everything else may make a difference to a panel.
    """
    address = _ADDRESS.fullmatch(link)
    if address is None:
        return link
    place, path, rest = address.groups()
    return place.lower() + path.rstrip("/") + rest


def _allowance(session: Session, terms: Terms) -> Allowance | None:
    """Return what an order counts against if its token has a limit, or refuse one that could go on beyond it."""
    allowance = None if session.token is None else session.token.allowance
    if allowance is not None and terms.endless:
        raise Refusal(Code.INVALID_REQUEST, "This token has a limit: say how many posts", field="posts")
    return allowance


def _budget(tenant: Tenant, now: int) -> Budget | None:
    """Return what a tenant may spend on the day of a time (epoch µs), if it has a limit."""
    if tenant.daily_spend is None:
        return None
    return Budget(datetime.fromtimestamp(now / SECOND, UTC).date().isoformat(), tenant.daily_spend)
