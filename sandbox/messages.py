"""What passes between the parts: a request as received, a call as understood, a reply, and a reason to say no."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(frozen=True)
class Request:
    """One HTTP request, fully read."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header the last."""
    body: bytes
    arrived: float

    @property
    def path(self) -> str:
        """The target without its query string."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query string, undecoded."""
        return self.target.partition("?")[2]


class Problem(Enum):
    """Why a panel says no; each dialect has its own sentence for each."""

    NOT_READABLE = auto()
    WRONG_METHOD = auto()
    BAD_KEY = auto()
    BAD_ACTION = auto()
    BAD_REQUEST = auto()
    BAD_SERVICE = auto()
    BAD_LINK = auto()
    DUPLICATE_LINK = auto()
    BAD_QUANTITY = auto()
    QUANTITY_LOW = auto()
    QUANTITY_HIGH = auto()
    NO_FUNDS = auto()
    BAD_ORDER = auto()
    BAD_REFILL = auto()
    NOT_REFILLABLE = auto()
    NOT_CANCELABLE = auto()
    TOO_FAST = auto()


class PanelError(Exception):
    """A panel's refusal; `facts` fill the gaps in the dialect's sentence."""

    def __init__(self, problem: Problem, **facts: int) -> None:
        super().__init__(problem.name)
        self.problem = problem
        self.facts = facts


@dataclass(frozen=True)
class Call:
    """A request as its panel understands it. What could not be understood is in `flaw`."""

    key: str = ""
    action: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    flaw: Problem | None = None

    def text(self, name: str) -> str:
        """A field as text; empty when it is missing or no scalar."""
        value = self.fields.get(name)
        if isinstance(value, str):
            return value.strip()
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


@dataclass(frozen=True)
class Reply:
    """What a panel answers, before anything happens to it on the way."""

    body: object
    status: int = 200
    order: int | None = None
    """The order that this reply created."""
