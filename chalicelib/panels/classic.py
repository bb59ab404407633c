"""The classic protocol's replies: what PerfectPanel's dialect and its kin have in common, as tables and one reader.

A dialect of this family is a subclass that says how a request is sent and overrides the tables where its document
differs. What decides between *refused* and *unknown* is the same for all of them:

- An order id is a purchase, whatever stands beside it and at whatever HTTP status (reliability.md 5, A11).
- A complaint is a refusal only if a table knows its text, and never at 3xx or 5xx, unless the panel's document says
  so. Everything else is ``UnreadableReply``: for ``add`` that means that the outcome is not known.
- A read, and the acceptance of a refill or a cancel, is believed at 2xx only.
- In a reply about several orders an item that cannot be understood is left out; the others count.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar, TypeVar

from chalicelib.actions import (
    Action,
    Answer,
    Balance,
    BatchCall,
    Call,
    CancelTaken,
    GetBalance,
    GetRefill,
    GetRefills,
    Item,
    Items,
    ListServices,
    Placed,
    PlaceOrder,
    Reason,
    RefillReading,
    RefillTaken,
    Refused,
    SingleCall,
    Status,
)
from chalicelib.errors import UnreadableReply
from chalicelib.model import OrderStatus, RefillStatus
from chalicelib.panels import complaints, items, reading, writing
from chalicelib.panels.catalogs import Catalog
from chalicelib.panels.complaints import Complaint, Meaning
from chalicelib.panels.dialect import MAX_CATALOG, MAX_STATUSES, Dialect, Reply, Request, action_of, ids_of
from chalicelib.panels.writing import Fields

Value = TypeVar("Value")

_MOST: Mapping[Action, int] = MappingProxyType({Action.SERVICES: MAX_CATALOG, Action.STATUS: MAX_STATUSES})

# A panel's sentence of 300 characters and what we say of it.
_LONGEST_CAUSE = 400
# What a reply about other things than a purchase may say; in answer to an `add` it tells nothing of that purchase.
_NOT_OF_A_PURCHASE = frozenset({Reason.ORDER, Reason.REFILL, Reason.NOT_REFILLABLE, Reason.NOT_CANCELABLE})
# The `status` of a call, not of what was asked for; a number may be either.
_ENVELOPES = frozenset({"success", "ok", "true"})


class Classic(Dialect):
    """Reads the classic protocol's replies by the tables below.

    Attributes:
        key_field: the field that carries the key (None: ``request`` puts it elsewhere).
        names: the panel's names of a call's fields, where they are not the protocol's.
        words: its words for actions, likewise.
        order_fields: where an ``add`` reply holds the order id, the first readable one counts.
        charged_fields: where an ``add`` reply holds what it cost, if it says so.
        balance_fields: where a ``balance`` reply holds the amount.
        result_fields: where the other replies hold their result.
        charge_fields: where a ``status`` reply holds what the order cost.
        start_fields: where it holds the start count.
        remains_fields: where it holds what is left to deliver.
        accepted_field: where a refill or cancel that has no id or flag of its own is said to be accepted.
        columns: the names of a service's fields, by ours.
        service_extras: a service's further fields, by the panel's name, and our name for them.
        service_types: what a service's type means, as ``reading.word`` spells it.
        statuses: what an order's status means, likewise.
        refill_statuses: what a refill's status means, likewise.
        currency: the one currency of all amounts, where the document fixes it.
        refuses_at_5xx: reasons whose texts are a refusal at HTTP 5xx too, by the panel's own document.
    """

    key_field: ClassVar[str | None] = "key"
    names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    words: ClassVar[Mapping[str, str]] = MappingProxyType({})
    order_fields: ClassVar[tuple[str, ...]] = ("order", "order_id")
    charged_fields: ClassVar[tuple[str, ...]] = ()
    balance_fields: ClassVar[tuple[str, ...]] = ("balance", "Balance", "funds", "amount")
    result_fields: ClassVar[Mapping[Action, str]] = MappingProxyType(
        {
            Action.STATUS: "status",
            Action.REFILL: "refill",
            Action.REFILL_STATUS: "status",
            Action.CANCEL: "cancel",
        }
    )
    charge_fields: ClassVar[tuple[str, ...]] = ("charge",)
    start_fields: ClassVar[tuple[str, ...]] = ("start_count", "start_counter")
    remains_fields: ClassVar[tuple[str, ...]] = ("remains",)
    accepted_field: ClassVar[str | None] = None
    columns: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "id": "service",
            "name": "name",
            "type": "type",
            "category": "category",
            "rate": "rate",
            "min": "min",
            "max": "max",
            "refill": "refill",
            "cancel": "cancel",
            "dripfeed": "dripfeed",
        }
    )
    service_extras: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"desc": "description", "description": "description"}
    )
    service_types: ClassVar[Mapping[str, str]] = reading.TYPES
    statuses: ClassVar[Mapping[str, OrderStatus]] = reading.STATUSES
    refill_statuses: ClassVar[Mapping[str, RefillStatus]] = reading.REFILL_STATUSES
    currency: ClassVar[str | None] = None
    refuses_at_5xx: ClassVar[frozenset[Reason]] = frozenset()

    @abstractmethod
    def request(self, fields: Fields, key: str) -> Request:
        """Return the request that carries a call's fields, the key among them if ``key_field`` names its field."""

    def encode(self, call: Call, key: str) -> Request:
        """Return the call in the panel's words; see ``Dialect.encode``."""
        if not self.capabilities.can(call):
            raise ValueError(f"{self.name} has no such call: {type(call).__name__}")
        fields = writing.fields(call, self.names, self.words)
        request = self.request({self.key_field: key, **fields} if self.key_field else fields, key)
        return replace(request, max_reply=_MOST.get(action_of(call), request.max_reply))

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
        complaint = _complaint(call, document)
        if isinstance(call, PlaceOrder) and (placed := self._placed(document, reply, complaint)):
            return placed
        if complaint or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            return self._refused(call, reply, complaint or Complaint((f"HTTP {reply.status}",)))
        return self._read(call, document, reply)

    def _read(self, call: Call, document: object, reply: Reply) -> Answer:
        if not _good(reply.status):
            raise UnreadableReply("neither an answer nor a known refusal")
        if isinstance(call, BatchCall):
            return self._items(call, document)
        match call:
            case GetBalance():
                return self._balance(document)
            case ListServices():
                return Catalog(self.columns, self.service_types, self.service_extras).read(document)
            case PlaceOrder():
                raise UnreadableReply("neither an order nor an error")
            case _:
                return self._single(call, document)

    # -- refusals ---------------------------------------------------------------------------------------------

    def _refused(self, call: Call, reply: Reply, complaint: Complaint) -> Refused:
        throttled = Meaning(Reason.THROTTLED) if reply.status == HTTPStatus.TOO_MANY_REQUESTS else None
        meaning = complaint.meaning or throttled
        if meaning is None:
            raise UnreadableReply(f"an unknown error: {complaint.text}")
        if not self._believed(call, reply.status, meaning.reason):
            raise UnreadableReply(f"an error that does not prove a refusal: {complaint.text}")
        return Refused(meaning.reason, complaint.text, meaning.bound)

    def _believed(self, call: Call, status: int, reason: Reason) -> bool:
        """Say whether a known complaint proves that the panel did nothing."""
        if isinstance(call, PlaceOrder):
            if reason is Reason.THROTTLED and not self.capabilities.throttled_means_not_placed:
                return False
            if reason in _NOT_OF_A_PURCHASE:
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
        if bare := reading.money(document):
            # The whole body is "42.10".
            return Balance(bare.amount, bare.currency or self.currency)
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

    # -- orders and refills -----------------------------------------------------------------------------------

    def _single(self, call: SingleCall, document: object) -> Item:
        said = self._said(call, document)
        if not said:
            raise UnreadableReply("nothing of what was asked for")
        return self._item(action_of(call), *said.values())

    def _items(self, call: BatchCall, document: object) -> Items:
        read: dict[int, Item] = {}
        for number, part in self._said(call, document).items():
            with suppress(UnreadableReply):
                read[number] = self._item(action_of(call), part)
        if not read:
            raise UnreadableReply("nothing readable of what was asked for")
        return Items(read)

    def _said(self, call: SingleCall | BatchCall, document: object) -> Mapping[int, object]:
        name = "refill" if isinstance(call, GetRefill | GetRefills) else "order"
        return items.parts(document, ids_of(call), name)

    def _item(self, action: Action, part: object) -> Item:
        name = self.result_fields[action]
        holder = _holder(part, name)
        of_refill = action is Action.REFILL_STATUS
        if complaint := complaints.found(part, of_refill=of_refill) or complaints.known(holder.get(name)):
            if complaint.meaning is None:
                raise UnreadableReply(f"an unknown error: {complaint.text}")
            return Refused(complaint.meaning.reason, complaint.text, complaint.meaning.bound)
        match action:
            case Action.REFILL:
                return self._refill(part, holder.get(name))
            case Action.REFILL_STATUS:
                return self._refill_reading(holder.get(name))
            case Action.CANCEL:
                return self._cancel(part, holder.get(name))
            case _:
                return self._status(holder)

    def _status(self, holder: Mapping[str, object]) -> Status:
        raw = reading.scalar(holder.get(self.result_fields[Action.STATUS]), 60)
        if not raw or (_of_a_call(raw) and complaints.ORDER_FIELDS.isdisjoint(holder)):
            raise UnreadableReply("no status")
        return Status(
            status=self.statuses.get(reading.word(raw)),
            raw_status=raw,
            charge=_first(reading.price, holder, self.charge_fields),
            currency=reading.currency(holder.get("currency")) or self.currency,
            start_count=_first(reading.natural, holder, self.start_fields),
            remains=_remains(_first(reading.count, holder, self.remains_fields)),
            odd_remains=_odd(holder, self.remains_fields),
            orders=reading.identifiers(holder["orders"]) if "orders" in holder else None,
            posts=reading.natural(holder.get("posts")),
            # SmartPanel itself says true or false here.
            expiry=reading.day(holder.get("expiry")),
        )

    def _refill(self, part: object, refill: object) -> RefillTaken:
        number = reading.identifier(refill)
        if number is None and not self._accepted(part):
            raise UnreadableReply("no refill id")
        return RefillTaken(number)

    def _refill_reading(self, status: object) -> RefillReading:
        raw = reading.scalar(status, 60)
        if not raw or _of_a_call(raw):
            raise UnreadableReply("no status of a refill")
        return RefillReading(self.refill_statuses.get(reading.word(raw)), raw)

    def _cancel(self, part: object, taken: object) -> CancelTaken:
        if not reading.flag(taken) and not self._accepted(part):
            raise UnreadableReply("no acceptance of a cancel")
        return CancelTaken()

    def _accepted(self, part: object) -> bool:
        said = (layer.get(self.accepted_field) for layer in reading.layers(part)) if self.accepted_field else ()
        return any(value is True or (isinstance(value, str) and value.strip()) for value in said)


def _good(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _of_a_call(status: str) -> bool:
    return status.isdigit() or reading.word(status) in _ENVELOPES


def _complaint(call: Call, document: object) -> Complaint | None:
    if isinstance(call, GetBalance) and reading.money(document):
        return None
    return complaints.found(document, of_refill=isinstance(call, GetRefill | GetRefills))


def _holder(part: object, name: str) -> Mapping[str, object]:
    """Return the innermost object that holds a result; a bare flag under an order's id is its ``cancel``."""
    if not isinstance(part, dict):
        return {name: part} if name == "cancel" else {}
    return next((layer for layer in reversed([*reading.layers(part)]) if name in layer), {})


def _odd(holder: Mapping[str, object], names: Iterable[str]) -> bool:
    """Say whether a figure is there and cannot be read."""
    given = [holder[name] for name in names if holder.get(name) not in (None, "")]
    return bool(given) and all(reading.count(value) is None for value in given)


def _remains(number: int | None) -> int | None:
    """Return what is left: a panel that delivered too much says less than nothing, and that is nothing."""
    return None if number is None else max(0, number)


def _present(document: object, names: Iterable[str]) -> Iterator[tuple[Mapping[str, object], str]]:
    for layer in reading.layers(document):
        for name in names:
            if name in layer:
                yield layer, name


def _first(reader: Callable[[object], Value | None], document: object, names: Iterable[str]) -> Value | None:
    values = (reader(layer[name]) for layer, name in _present(document, names))
    return next((value for value in values if value is not None), None)
