"""The log of every request a panel received: what tests count orders in, instead of trusting the gateway."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from sandbox.messages import Request

KEPT = 50_000
BODY_KEPT = 262_144
"""Characters of a body that are kept; more than the largest request the gateway accepts."""


@dataclass
class Entry:
    """One request and what became of it."""

    sequence: int
    time: float
    method: str
    path: str
    headers: dict[str, str]
    body: str
    action: str
    fault: str | None = None
    order: int | None = None
    """The order it created."""
    status: int | None = None
    """The HTTP status answered; None when it got no answer."""


class Journal:
    """A bounded log that knows which of its entries are not yet stored."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.last = 0
        self.unsaved: dict[int, Entry] = {}
        self.forgotten = False

    def open_entry(self, request: Request, action: str) -> Entry:
        """Log a request that has arrived."""
        self.last += 1
        body = request.body[: BODY_KEPT * 4].decode(errors="replace")[:BODY_KEPT]
        headers = dict(request.headers)
        entry = Entry(self.last, request.arrived, request.method, request.target, headers, body, action)
        self.entries.append(entry)
        self.unsaved[entry.sequence] = entry
        if len(self.unsaved) > KEPT:
            # Without a state file nobody ever takes them.
            del self.unsaved[next(iter(self.unsaved))]
        return entry

    def close_entry(self, entry: Entry, *, order: int | None, status: int | None) -> None:
        """Note what became of it."""
        entry.order, entry.status = order, status
        self.unsaved[entry.sequence] = entry

    def forget(self) -> None:
        """Empty the log; sequence numbers go on."""
        self.entries.clear()
        self.unsaved.clear()
        self.forgotten = True

    def listing(self, action: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """The entries as JSON, oldest first."""
        chosen = (entry for entry in self.entries if entry.sequence > since)
        return [asdict(entry) for entry in chosen if action is None or entry.action == action]

    def take_unsaved(self) -> list[Entry]:
        """The entries to store now, and they count as stored."""
        taken = list(self.unsaved.values())
        self.unsaved = {}
        return taken
