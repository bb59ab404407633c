"""The built-in test provider: what keys of the form ``pg_test_…`` work against, on every stage.

A program that holds such a key is served by the gateway's own code and by this pretended panel, which has no network
and no money: the key can reach no other one, for nothing that its requests are wired to knows any (`wiring`). Its
orders are kept apart from its tenant's, under a name that no tenant can have, and go by their ``ttl``.

The panel remembers nothing. The number of an order says when it was placed, on which service and how many units it
has, and everything follows from these and the time: an order begins after 10 s and ends after 30 s.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import IntEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from chalicelib.actions import Action, Placed
from chalicelib.clock import SECOND, Clock
from chalicelib.commands import AddCommand, AnyCommand, TokenCommand
from chalicelib.errors import AlreadyBound, AnswerLost, Code, NeverSent, Refusal
from chalicelib.keys import ProviderKey
from chalicelib.model import Funding, Order, OrderState, Provider, Scope, Service, Source, Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.ports import Listing, Orders

# No tenant and no provider can have these names: a slug has no colon. Real providers count from 1.
PROVIDER = Provider(slug="test:panel", number=0, dialect="perfectpanel", url="test:")
_TENANT = "test:"
# Seconds that a test order is kept.
KEPT = 30 * 24 * 3600
KEY = ProviderKey("the-test-provider-has-no-key", "test")
"""The test provider's key, which opens nothing."""
BALANCE = Decimal(1000)
# When an order begins, and when it ends, in seconds of its age.
BEGINS, ENDS = 10, 30
# A lost order is settled by the first run of the job after this age, in µs.
SETTLED_AFTER = 30 * SECOND
# An order that waits may be canceled; it is canceled after so many seconds, asked for or not.
WAITS = 60
# The parts of an order's number, in bits; together they stay below 2**63.
_SERVICE, _UNITS, _SALT = 5, 14, 15
_SINCE = 1_735_689_600  # 2025-01-01, in seconds: 29 bits last until 2042


class Offer(IntEnum):
    """The services, by what becomes of an order."""

    DELIVERED = 1
    COMMENTS = 2
    PACKAGE = 3
    PARTIAL = 4
    CANCELED = 5
    WAITING = 6
    REFILL_REJECTED = 7
    BAD_LINK = 10
    BAD_QUANTITY = 11
    GONE = 12
    DUPLICATE = 13
    REFUSED = 14
    DOWN = 15
    LOST_AND_BOUGHT = 16
    LOST = 17
    NO_FUNDS = 18


def _service(offer: Offer, name: str, kind: str = "Default", rate: str = "0.90", **more: bool) -> Service:
    most = 1 if kind == "Package" else 10_000
    return Service(
        provider=PROVIDER.slug,
        id=offer.value,
        name=f"TEST {name}",
        type=kind,
        category="Test services: nothing is bought" if offer < Offer.BAD_LINK else "Test services that fail on purpose",
        rate=Decimal(rate),
        min=1,
        max=most,
        refill=more.get("refill", False),
        cancel=more.get("cancel", False),
        dripfeed=more.get("dripfeed", False),
    )


SERVICES: Mapping[int, Service] = MappingProxyType(
    {
        service.id: service
        for service in (
            _service(Offer.DELIVERED, "delivered", refill=True, dripfeed=True),
            _service(Offer.COMMENTS, "comments, delivered", "Custom Comments", "5"),
            _service(Offer.PACKAGE, "package, delivered", "Package", "2"),
            _service(Offer.PARTIAL, "half of it delivered, the rest is paid back"),
            _service(Offer.CANCELED, "canceled, paid back"),
            _service(Offer.WAITING, "waits; takes a cancel request, and is canceled after a minute", cancel=True),
            _service(Offer.REFILL_REJECTED, "delivered; its refills are rejected", refill=True),
            _service(Offer.BAD_LINK, "invalid_link"),
            _service(Offer.BAD_QUANTITY, "invalid_quantity"),
            _service(Offer.GONE, "service_not_found"),
            _service(Offer.DUPLICATE, "duplicate_link"),
            _service(Offer.REFUSED, "order_refused"),
            _service(Offer.DOWN, "service_unavailable"),
            _service(Offer.LOST_AND_BOUGHT, "pending_confirmation; proves to be bought within two minutes"),
            _service(Offer.LOST, "pending_confirmation; proves not to be bought within two minutes"),
            _service(Offer.NO_FUNDS, "insufficient_funds"),
        )
    }
)
_COMPLAINTS: Mapping[int, str] = MappingProxyType(
    {
        Offer.BAD_LINK: "Incorrect link",
        Offer.BAD_QUANTITY: "Incorrect quantity",
        Offer.GONE: "Incorrect service ID",
        Offer.DUPLICATE: "You have active order with this link. Please wait until order being completed.",
        Offer.REFUSED: "Incorrect request",
    }
)


def is_test(tenant: str) -> bool:
    """Say whether an order's tenant is one in test mode."""
    return tenant.startswith(_TENANT)


def as_tester(tenant: Tenant, scope: Scope) -> tuple[Tenant, Scope]:
    """Return a tenant and what its key may do as they are in test mode: with no money, and only the test provider."""
    tester = replace(
        tenant,
        id=_TENANT + tenant.id,
        funding=Funding.PROVIDER,
        providers=None,
        services=None,
        daily_spend=None,
        own_keys=frozenset(),
    )
    return tester, replace(scope, providers=None)


def check(command: AnyCommand) -> None:
    """Refuse what no panel refuses, but the gateway itself.

    Raises:
        Refusal: `insufficient_funds`, on the service that is for it; `not_supported`: a page gets no test key.
    """
    if isinstance(command, TokenCommand):
        raise Refusal(Code.NOT_SUPPORTED, "There are no browser tokens of test keys")
    if isinstance(command, AddCommand) and command.service in (Offer.NO_FUNDS, PROVIDER.global_id(Offer.NO_FUNDS)):
        raise Refusal(Code.INSUFFICIENT_FUNDS, "Not enough funds on balance")


class BuiltInProviders:
    """The one provider of test mode; see ``ports.Providers``."""

    def providers(self) -> Mapping[str, Provider]:
        """Return it."""
        return {PROVIDER.slug: PROVIDER}


class BuiltInCatalog:
    """The test provider's services; see ``ports.Catalog``."""

    def service(self, _provider: str, service: int) -> Service | None:
        """Return one service."""
        return SERVICES.get(service)

    def listings(self, _providers: object) -> Mapping[str, Listing]:
        """Return the catalog."""
        return {PROVIDER.slug: Listing("1", list(SERVICES.values()))}


@dataclass(frozen=True, slots=True)
class _Number:
    """What an order's number, or a refill's, says."""

    at: int
    service: int
    units: int

    @classmethod
    def read(cls, number: int) -> "_Number":
        number >>= _SALT
        units, number = number & (1 << _UNITS) - 1, number >> _UNITS
        return cls((number >> _SERVICE) + _SINCE, number & (1 << _SERVICE) - 1, units)

    def drawn(self) -> int:
        """Return a number that says this, one of many."""
        number = (self.at - _SINCE) << _SERVICE | self.service
        number = number << _UNITS | min(self.units, (1 << _UNITS) - 1)
        return number << _SALT | secrets.randbelow(1 << _SALT)


@dataclass(frozen=True, slots=True)
class BuiltInPanel:
    """A sender that is the panel itself; see ``ports.Sender``. It speaks the classic protocol."""

    clock: Clock

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        """Answer a request."""
        del url, deadline, send_by
        fields = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        answer = _ANSWERS[Action(fields["action"])](self, fields)
        return Reply(200, {"content-type": "application/json"}, json.dumps(answer).encode())

    def _add(self, fields: Mapping[str, str]) -> object:
        service = int(fields["service"])
        if service == Offer.DOWN:
            raise NeverSent("the test provider is down on purpose")
        if service in (Offer.LOST, Offer.LOST_AND_BOUGHT):
            raise AnswerLost("the test provider keeps its answer on purpose")
        if service in _COMPLAINTS:
            return {"error": _COMPLAINTS[service]}
        units = int(fields.get("quantity") or fields.get("comments", "").count("\n") + 1)
        now = self.clock.now() // SECOND
        return {"order": _Number(now, service, units * int(fields.get("runs") or 1)).drawn()}

    def _status(self, number: int) -> Mapping[str, Any]:
        order = _Number.read(number)
        status, remains = _standing(order, self._age(order))
        return {"status": status, "start_count": "100", "remains": str(remains), "currency": "USD"}

    def _refill(self, number: int) -> object:
        order = _Number.read(number)
        able = order.service in (Offer.DELIVERED, Offer.REFILL_REJECTED) and self._age(order) >= ENDS
        if not able:
            return {"error": "Order not eligible for refill."}
        return replace(order, at=self.clock.now() // SECOND).drawn()

    def _refill_status(self, number: int) -> object:
        refill = _Number.read(number)
        if self._age(refill) < ENDS:
            return "Pending" if self._age(refill) < BEGINS else "In progress"
        return "Rejected" if refill.service == Offer.REFILL_REJECTED else "Completed"

    def _cancel(self, number: int) -> object:
        order = _Number.read(number)
        able = order.service == Offer.WAITING and self._age(order) < WAITS
        return 1 if able else {"error": "Order cannot be canceled"}

    def _age(self, number: _Number) -> int:
        """Return in seconds how long ago an order was placed; clocks differ."""
        return max(0, self.clock.now() // SECOND - number.at)

    def _statuses(self, fields: Mapping[str, str]) -> object:
        if "orders" not in fields:
            return self._status(int(fields["order"]))
        return {number: self._status(int(number)) for number in fields["orders"].split(",")}

    def _refills(self, fields: Mapping[str, str]) -> object:
        if "orders" not in fields:
            return _single("refill", self._refill(int(fields["order"])))
        return _rows("order", "refill", fields["orders"], self._refill)

    def _refill_statuses(self, fields: Mapping[str, str]) -> object:
        if "refills" not in fields:
            return _single("status", self._refill_status(int(fields["refill"])))
        return _rows("refill", "status", fields["refills"], self._refill_status)

    def _cancels(self, fields: Mapping[str, str]) -> object:
        return _rows("order", "cancel", fields["orders"], self._cancel)

    def _balance(self, _fields: Mapping[str, str]) -> object:
        return {"balance": str(BALANCE), "currency": "USD"}


_ANSWERS: Mapping[Action, Callable[[BuiltInPanel, Mapping[str, str]], object]] = MappingProxyType(
    {
        Action.ADD: BuiltInPanel._add,  # noqa: SLF001 - its own
        Action.BALANCE: BuiltInPanel._balance,  # noqa: SLF001
        Action.STATUS: BuiltInPanel._statuses,  # noqa: SLF001
        Action.REFILL: BuiltInPanel._refills,  # noqa: SLF001
        Action.REFILL_STATUS: BuiltInPanel._refill_statuses,  # noqa: SLF001
        Action.CANCEL: BuiltInPanel._cancels,  # noqa: SLF001
    }
)


def _single(name: str, value: object) -> object:
    return value if isinstance(value, dict) else {name: value}


def _rows(target: str, name: str, ids: str, answer: Callable[[int], object]) -> object:
    return [{target: int(number), name: answer(int(number))} for number in ids.split(",")]


def _standing(order: _Number, age: int) -> tuple[str, int]:
    """Return how an order is doing and how much of it remains."""
    if order.service == Offer.WAITING:
        return ("Pending", order.units) if age < WAITS else ("Canceled", order.units)
    if age < BEGINS:
        return "Pending", order.units
    if age < ENDS:
        return "In progress", -(-order.units // 2)
    if order.service == Offer.PARTIAL:
        return "Partial", order.units // 2
    return ("Canceled", order.units) if order.service == Offer.CANCELED else ("Completed", 0)


def settle(orders: Orders, clock: Clock, *, end: int) -> None:
    """Settle the test orders whose answer was lost, on purpose or by accident; what is left at ``end`` waits."""
    for order in orders.unsettled(PROVIDER.account):
        if clock.now() >= end:
            return
        if order.state is OrderState.UNKNOWN and clock.now() >= order.created + SETTLED_AFTER:
            _settle(orders, order, end)


def _settle(orders: Orders, order: Order, end: int) -> None:
    if order.service == Offer.LOST:
        sentence = "the test provider bought nothing, on purpose"
        orders.give_up(order, sentence, until=end, source=Source.SETTLEMENT)
        return
    units = order.quantity * (order.runs or 1)
    placed = Placed(_Number(order.created // SECOND, order.service, units).drawn())
    try:
        orders.place(
            order, placed, until=end, source=Source.SETTLEMENT, evidence="the test provider has it, as it is known for"
        )
    except AlreadyBound:
        return  # the number is another order's; the next run draws another one
