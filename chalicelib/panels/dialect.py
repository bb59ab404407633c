"""The seam between the gateway and a family of panels: two pure translations plus data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from chalicelib.actions import (
    Action,
    Answer,
    BatchCall,
    Call,
    GetBalance,
    GetRefill,
    GetRefills,
    GetStatus,
    GetStatuses,
    ListServices,
    PlaceOrder,
    RequestCancel,
    RequestCancels,
    RequestRefill,
    RequestRefills,
)

MAX_REPLY = 500_000
"""Bytes of a reply; whatever reads one has to be done within seconds of it."""
MAX_STATUSES = 2_000_000
"""Bytes of a reply about how orders are doing. 100 take some 30 kB, but a subscription lists all that it made."""
MAX_CATALOG = 8_000_000
"""Bytes of a reply that lists services: 5,000 of them are 1.2 MB."""

_ACTIONS: Mapping[type[Call], Action] = MappingProxyType(
    {
        GetBalance: Action.BALANCE,
        ListServices: Action.SERVICES,
        PlaceOrder: Action.ADD,
        GetStatus: Action.STATUS,
        GetStatuses: Action.STATUS,
        RequestRefill: Action.REFILL,
        RequestRefills: Action.REFILL,
        GetRefill: Action.REFILL_STATUS,
        GetRefills: Action.REFILL_STATUS,
        RequestCancel: Action.CANCEL,
        RequestCancels: Action.CANCEL,
    }
)


def action_of(call: Call) -> Action:
    """Return the action of the protocol that a call asks for."""
    return _ACTIONS[type(call)]


def ids_of(call: Call) -> tuple[int, ...]:
    """Return the panel's ids that a call names, of orders or of refills."""
    match call:
        case GetStatus() | RequestRefill() | RequestCancel():
            return (call.order,)
        case GetRefill():
            return (call.refill,)
        case GetStatuses() | RequestRefills() | RequestCancels():
            return call.orders
        case GetRefills():
            return call.refills
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class Request:
    """What to send to the provider's URL. ``repr`` shows no body, header or query: each may hold the key.

    ``query`` is the encoded query string that goes behind the provider's URL. ``max_reply`` is the most bytes that the
    reply may take on the wire, its head and TLS included.
    """

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    method: str = "POST"
    query: str = field(default="", repr=False)
    max_reply: int = MAX_REPLY


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: HTTP status, headers with lower-case names, and the whole body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What panels of a dialect can do.

    Attributes:
        actions: the actions that exist there.
        batches: those of them that take several ids in one call.
        interval: µs between two calls by default (0: no limit published).
        burst: calls that may come at once by default.
        throttled_means_not_placed: the document says that a 429 was not processed, so an ``add`` so answered
            bought nothing. Without it a throttled ``add`` is an unknown outcome.
        sends_dripfeed: ``runs`` and ``interval`` are known fields of ``add``.
        types: the service types, in the spelling of ``reading.TYPES``, whose fields an ``add`` can carry there
            (None: all of the protocol's).
    """

    actions: frozenset[Action]
    batches: frozenset[Action] = frozenset()
    interval: int = 0
    burst: int = 1
    throttled_means_not_placed: bool = False
    sends_dripfeed: bool = True
    types: frozenset[str] | None = None

    def can(self, call: Call) -> bool:
        """Say whether the dialect has such a call."""
        action = action_of(call)
        return action in self.actions and (action in self.batches or not isinstance(call, BatchCall))


class Dialect(ABC):
    """How a family of panels speaks. Instances hold no state; both translations are pure.

    Attributes:
        name: the name that ``panelgate providers add --dialect`` takes.
        capabilities: what panels of this family can do.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    @abstractmethod
    def encode(self, call: Call, key: str) -> Request:
        """Return the HTTP request that asks ``call`` of a panel, authenticated by the provider key.

        Raises:
            ValueError: the dialect has no such call; its capabilities say so beforehand.
        """

    @abstractmethod
    def decode(self, call: Call, reply: Reply) -> Answer:
        """Return what the panel answered to ``call``.

        Raises:
            UnreadableReply: the reply fits none of the dialect's tables.
        """
