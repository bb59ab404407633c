"""The classic protocol's replies: what PerfectPanel's dialect and its kin have in common, as tables and one reader.

A dialect of this family is a subclass that says how a request is written and overrides the tables where its document
differs. What decides between *refused* and *unknown* is the same for all of them:

- An order id is a purchase, whatever stands beside it and at whatever HTTP status (reliability.md 5, A11).
- A complaint is a refusal only if a table knows its text, and never at 3xx or 5xx, unless the panel's document says
  so. Everything else is ``UnreadableReply``: for ``add`` that means that the outcome is not known.
- A read is believed at 2xx only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar, TypeVar

from chalicelib.actions import (
    Answer,
    Balance,
    Call,
    GetBalance,
    GetStatus,
    ListServices,
    PanelService,
    Placed,
    PlaceOrder,
    Reason,
    Refused,
    Services,
    Status,
)
from chalicelib.errors import UnreadableReply
from chalicelib.model import OrderStatus
from chalicelib.panels import complaints, reading
from chalicelib.panels.complaints import Complaint
from chalicelib.panels.dialect import Dialect, Reply

Value = TypeVar("Value")

# A panel's sentence of 300 characters and what we say of it.
_LONGEST_CAUSE = 400


class Classic(Dialect):
    """Reads the classic protocol's replies by the tables below.

    Attributes:
        order_fields: where an ``add`` reply holds the order id, the first readable one counts.
        charged_fields: where an ``add`` reply holds what it cost, if it says so.
        balance_fields: where a ``balance`` reply holds the amount.
        start_fields: where a ``status`` reply holds the start count.
        service_extras: a service's further fields, by the panel's name, and our name for them.
        statuses: what a status word means, as ``reading.word`` spells it.
        currency: the one currency of all amounts, where the document fixes it.
        refuses_at_5xx: reasons whose texts are a refusal at HTTP 5xx too, by the panel's own document.
    """

    order_fields: ClassVar[tuple[str, ...]] = ("order", "order_id")
    charged_fields: ClassVar[tuple[str, ...]] = ()
    balance_fields: ClassVar[tuple[str, ...]] = ("balance", "Balance", "funds", "amount")
    start_fields: ClassVar[tuple[str, ...]] = ("start_count", "start_counter")
    service_extras: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"desc": "description", "description": "description"}
    )
    statuses: ClassVar[Mapping[str, OrderStatus]] = reading.STATUSES
    currency: ClassVar[str | None] = None
    refuses_at_5xx: ClassVar[frozenset[Reason]] = frozenset()

    def decode(self, call: Call, reply: Reply) -> Answer:
        """Return what the panel answered; see ``Dialect.decode``."""
        try:
            return self._answer(call, reply)
        except UnreadableReply as error:
            raise UnreadableReply(reading.plain(f"HTTP {reply.status}: {error}", _LONGEST_CAUSE)) from None

    def _answer(self, call: Call, reply: Reply) -> Answer:
        try:
            document = reading.document(reply.body)
        except UnreadableReply:
            if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
                raise
            document = None
        document = _unwrapped(call, document)
        complaint = complaints.found(document)
        if isinstance(call, PlaceOrder) and (placed := self._placed(document, reply, complaint)):
            return placed
        if complaint or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            return self._refused(call, reply, complaint or Complaint((f"HTTP {reply.status}",)))
        return self._read(call, document, reply)

    def _read(self, call: Call, document: object, reply: Reply) -> Answer:
        if not _good(reply.status):
            raise UnreadableReply("neither an answer nor a known refusal")
        match call:
            case GetBalance():
                return self._balance(document)
            case ListServices():
                return self._services(document)
            case PlaceOrder():
                raise UnreadableReply("neither an order nor an error")
            case GetStatus():
                return self._status(document, call.order)

    # -- refusals ---------------------------------------------------------------------------------------------

    def _refused(self, call: Call, reply: Reply, complaint: Complaint) -> Refused:
        throttled = reply.status == HTTPStatus.TOO_MANY_REQUESTS
        reason = complaint.reason or (Reason.THROTTLED if throttled else None)
        if reason is None:
            raise UnreadableReply(f"an unknown error: {complaint.text}")
        if not self._believed(call, reply.status, reason):
            raise UnreadableReply(f"an error that does not prove a refusal: {complaint.text}")
        return Refused(reason, complaint.text)

    def _believed(self, call: Call, status: int, reason: Reason) -> bool:
        """Say whether a known complaint proves that the panel did nothing."""
        if isinstance(call, PlaceOrder):
            if reason is Reason.THROTTLED and not self.capabilities.throttled_means_not_placed:
                return False
            if reason is Reason.ORDER:
                # "Order not found" in answer to a purchase tells nothing of that purchase.
                return False
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return reason in self.refuses_at_5xx
        return _good(status) or status >= HTTPStatus.BAD_REQUEST

    # -- add --------------------------------------------------------------------------------------------------

    def _placed(self, document: object, reply: Reply, complaint: Complaint | None) -> Placed | None:
        order = _first(reading.identifier, document, self.order_fields)
        if order is None:
            return None
        warning = f"HTTP {reply.status} with an order id"
        if complaint:
            warning += f" and an error: {complaint.text}"
        odd = complaint or not _good(reply.status)
        return Placed(
            order,
            pending=self._pending(document, reply),
            charge=_first(reading.price, document, self.charged_fields),
            warning=warning if odd else None,
        )

    def _pending(self, _document: object, _reply: Reply) -> bool:
        """Say whether the panel will confirm the order later; the classic protocol has no such thing."""
        return False

    # -- balance ----------------------------------------------------------------------------------------------

    def _balance(self, document: object) -> Balance:
        for holder, name in _present(document, self.balance_fields):
            value = holder[name]
            if isinstance(value, dict):
                # {"balance": {"amount": …, "currency": …}}
                holder, value = value, value.get("amount")  # noqa: PLW2901 - the inner object takes its place
            if money := reading.money(value):
                return Balance(
                    money.amount, reading.currency(holder.get("currency")) or money.currency or self.currency
                )
        raise UnreadableReply("no readable balance")

    # -- status -----------------------------------------------------------------------------------------------

    def _status(self, document: object, order: int) -> Status:
        holder = next((layer for layer in reversed([*reading.layers(document)]) if "status" in layer), {})
        raw = reading.scalar(holder.get("status"), 60)
        if not raw:
            raise UnreadableReply("no status")
        if reading.identifier(holder.get("order")) not in {None, order}:
            raise UnreadableReply("the status of another order")
        return Status(
            status=self.statuses.get(reading.word(raw)),
            raw_status=raw,
            charge=reading.price(holder.get("charge")),
            currency=reading.currency(holder.get("currency")) or self.currency,
            start_count=_not_negative(_first(reading.count, holder, self.start_fields)),
            remains=_remains(holder.get("remains")),
        )

    # -- services ---------------------------------------------------------------------------------------------

    def _services(self, document: object) -> Services:
        services: dict[int, PanelService] = {}
        skipped: list[str] = []
        for position, (name, row) in enumerate(_rows(document), start=1):
            try:
                service = self._service(name, row)
            except UnreadableReply as error:
                skipped.append(f"row {position}: {error}")
                continue
            if services.setdefault(service.id, service) is not service:
                skipped.append(f"row {position}: service {service.id} was listed before")
        if skipped and not services:
            # An empty catalog would put every service out of use.
            raise UnreadableReply(f"none of {len(skipped)} services could be read; {skipped[0]}")
        return Services(tuple(services.values()), tuple(skipped))

    def _service(self, name: object, row: object) -> PanelService:
        if not isinstance(row, dict):
            raise UnreadableReply("no object")
        number = _needed(reading.identifier(row.get("service", name)), "service id")
        try:
            return self._described(number, row)
        except UnreadableReply as error:
            raise UnreadableReply(f"service {number}: {error}") from None

    def _described(self, number: int, row: Mapping[str, object]) -> PanelService:
        least, most = _limits(row)
        return PanelService(
            id=number,
            name=_needed(reading.label(row.get("name")) or None, "name"),
            type=reading.service_type(row.get("type")),
            category=reading.label(row.get("category")),
            rate=_needed(reading.price(row.get("rate")), "rate"),
            min=least,
            max=most,
            refill=reading.flag(row.get("refill")) or False,
            cancel=reading.flag(row.get("cancel")) or False,
            dripfeed=reading.flag(row.get("dripfeed")),
            extra=dict(self._extras(row)),
        )

    def _extras(self, row: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        for name, ours in self.service_extras.items():
            if text := reading.prose(row.get(name)):
                yield ours, text


def _good(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _unwrapped(call: Call, document: object) -> object:
    """Take off the wrappings that belong to one action only."""
    if isinstance(call, GetBalance) and reading.money(document):
        # The whole body is "42.10".
        return {"balance": document}
    if isinstance(call, GetStatus) and isinstance(document, dict):
        # {"12": {…}}, and SmartPanel's {"12": "Incorrect order ID"}
        return document.get(str(call.order), document)
    return document


def _rows(document: object) -> Iterable[tuple[object, object]]:
    """Yield a catalog's rows, each with the key it stands under, if it has one (protocol.md 1.4)."""
    wrapped = document
    while isinstance(wrapped, dict) and (
        name := next((name for name in ("services", "data") if name in wrapped), None)
    ):
        wrapped = wrapped[name]
    if isinstance(wrapped, list):
        return [(None, row) for row in wrapped]
    if isinstance(wrapped, dict) and wrapped and all(map(reading.identifier, wrapped)):
        return wrapped.items()
    if reading.word(wrapped) == "emptydata" and wrapped is not document:
        # SmartPanel wraps a sentence instead of a list.
        return []
    raise UnreadableReply("no list of services")


def _limits(row: Mapping[str, object]) -> tuple[int, int]:
    least = _needed(_not_negative(reading.count(row.get("min"))), "minimum")
    most = _needed(_not_negative(reading.count(row.get("max"))), "maximum")
    if most < least:
        raise UnreadableReply("the maximum is below the minimum")
    return least, most


def _not_negative(number: int | None) -> int | None:
    return None if number is None or number < 0 else number


def _remains(value: object) -> int | None:
    """Read what is left: a panel that delivered too much says less than nothing, and that is nothing."""
    number = reading.count(value)
    return None if number is None else max(0, number)


def _present(document: object, names: Iterable[str]) -> Iterator[tuple[Mapping[str, object], str]]:
    for layer in reading.layers(document):
        for name in names:
            if name in layer:
                yield layer, name


def _first(reader: Callable[[object], Value | None], document: object, names: Iterable[str]) -> Value | None:
    values = (reader(layer[name]) for layer, name in _present(document, names))
    return next((value for value in values if value is not None), None)


def _needed(value: Value | None, what: str) -> Value:
    if value is None:
        raise UnreadableReply(f"no readable {what}")
    return value
