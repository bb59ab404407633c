"""Time as the gateway counts it: whole microseconds since the epoch (UTC), and spans in the same unit."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from chalicelib.errors import StoreBusy

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the gateway knows it; ``sleep`` takes seconds. Tests hand in their own."""

    now: Callable[[], int]
    sleep: Callable[[float], None]

    def require(self, until: int) -> None:
        """Let nothing of the store begin after ``until``; a try of it takes up to 2 s (`wiring`).

        Raises:
            StoreBusy: it is later than that.
        """
        if self.now() >= until:
            raise StoreBusy("no time left")


def rfc3339(at: int) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond: such texts sort by time."""
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
