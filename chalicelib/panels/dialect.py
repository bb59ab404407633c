"""The seam between the gateway and a family of panels: two pure translations plus data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from chalicelib.actions import Action, Answer, Call


@dataclass(frozen=True, slots=True)
class Request:
    """What to send to the provider's URL. ``repr`` shows no body and no header: both may hold the key."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    method: str = "POST"


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
        interval: µs between two calls by default (0: no limit published).
        burst: calls that may come at once by default.
        throttled_means_not_placed: the document says that a 429 was not processed, so an ``add`` so answered
            bought nothing. Without it a throttled ``add`` is an unknown outcome.
        sends_dripfeed: ``runs`` and ``interval`` are known fields of ``add``.
    """

    actions: frozenset[Action]
    interval: int = 0
    burst: int = 1
    throttled_means_not_placed: bool = False
    sends_dripfeed: bool = True


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
        """Return the HTTP request that asks ``call`` of a panel, authenticated by the provider key."""

    @abstractmethod
    def decode(self, call: Call, reply: Reply) -> Answer:
        """Return what the panel answered to ``call``.

        Raises:
            UnreadableReply: the reply fits none of the dialect's tables.
        """
