"""The limiter: the generic cell rate algorithm as conditional updates of one item.

Of two times that the item keeps, in epoch µs, ``tat`` is when the bucket would be full again and ``gate`` is when the
next call is admitted: ``gate = tat - (burst - 1) × interval``. DynamoDB has no ``max()``, so a call takes one of two
updates: on a bucket that is filling both times move by ``interval``; on a full one they start anew from now. Which
one applies is guessed from what this container saw last, so that a call seldom takes two round trips. The settings
stand in the item itself: a new limit holds from the next call on, whatever a container has cached.

It admits at most burst + rate × time in every window, plus rate × clock skew (reliability.md 4.6).
"""

from collections.abc import Mapping
from typing import Any

from chalicelib.model import Quota

FILLING = "#tat >= :now AND #gate <= :latest"
FULL = "#tat < :now"
ADVANCE = "SET #tat = #tat + #interval, #gate = #gate + #interval"
RESTART = "SET #tat = :now + #interval, #gate = :now - #slack"


def names(*, full: bool) -> dict[str, str]:
    """Return the attribute names that the expressions for a full or a filling bucket use."""
    used = ("tat", "gate", "interval", "slack") if full else ("tat", "gate", "interval")
    return {f"#{name}": name for name in used}


def settings(interval: int, burst: int) -> dict[str, int]:
    """Return the attributes of a limit of one call per ``interval`` µs after the first ``burst``."""
    return {"interval": interval, "burst": burst, "slack": (burst - 2) * interval}


def full_bucket() -> dict[str, int]:
    """Return the attributes of a bucket that nothing was taken from."""
    return {"tat": 0, "gate": 0}


def emptied(item: Mapping[str, Any], interval: int, burst: int, now: int) -> tuple[str, str, dict[str, int]]:
    """Return how a bucket gets another limit: the assignments, the condition under which they are right, the values.

    A changed limit must not lend a second burst: what the bucket holds counts as spent now. But ``now`` is what the
    operator's clock says, which may be wrong. It is taken for no earlier than the old bucket was empty, which lies
    ahead where slots were given out in advance, and for no later than it was full again.
    """
    if item["tat"] < now:
        since, later, condition = "#tat", 0, f"{FULL} AND #gate <= :latest"
    elif item["gate"] > now + item["interval"]:
        since, later, condition = "#gate", -item["interval"], "#tat >= :now AND #gate > :latest"
    else:
        since, later, condition = ":now", 0, FILLING
    values = {
        ":now": now,
        ":latest": now + item["interval"],
        ":tat": later + burst * interval,
        ":gate": later + interval,
    }
    return f"#tat = {since} + :tat, #gate = {since} + :gate", condition, values


def quota(item: Mapping[str, Any], now: int) -> Quota:
    """Return what is left of a limit, for the caller's headers."""
    interval, burst = item["interval"], item["burst"]
    owed = max(0, item["tat"] - now)
    return Quota(limit=burst, interval=interval, remaining=max(0, burst - -(-owed // interval)), reset=owed)
