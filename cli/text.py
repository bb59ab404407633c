"""How values are written back to people, in the words in which they are typed (`options`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chalicelib.clock import HOUR, MINUTE, SECOND, rfc3339

PERIODS = {"s": SECOND, "m": MINUTE, "h": HOUR}
UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
UNLIMITED = "unlimited"


def rate_text(interval: int) -> str:
    """Return µs between two calls as the rate that was written: 333334 is 3/s."""
    for unit, period in PERIODS.items():
        calls = -(-period // interval)
        if -(-period // calls) == interval:
            return f"{calls}/{unit}"
    return f"1/{interval}µs"


def pace_text(interval: int) -> str:
    """Return a rate, or that there is none."""
    return rate_text(interval) if interval else UNLIMITED


def duration_text(seconds: int) -> str:
    """Return seconds in the largest unit that fits: 86400 is 1d."""
    unit = next((unit for unit, size in UNITS.items() if seconds and seconds % size == 0), "s")
    return f"{seconds // UNITS[unit]}{unit}"


def percent_text(share: Decimal) -> str:
    """Return a share as a percentage: 0.1 is 10%."""
    return f"{plain(share * 100):f}%"


def plain(number: Decimal) -> Decimal:
    """Return a number without trailing zeros and exponent, so that JSON shows it as it is written."""
    return Decimal(f"{number.normalize():f}")


def moment(at: int | None) -> str | None:
    """Return a time in epoch µs as RFC 3339 in UTC."""
    return None if at is None else rfc3339(at)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows under headings, as text."""

    headings: tuple[str, ...]
    rows: list[tuple[object, ...]]

    def __str__(self) -> str:
        """Return it with every column as wide as its widest cell."""
        lines = [self.headings, *(tuple(cell(value) for value in row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headings))]
        padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)


_WORDS = {None: "-", True: "yes", False: "no"}


def cell(value: object) -> str:
    """Return a value as people read it; a terminal's control characters in a panel's text are shown as dots."""
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{cell(name)}={cell(inner)}" for name, inner in value.items()) or "-"
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return "".join(character if character.isprintable() else "·" for character in text)


def facts(document: dict[str, Any]) -> str:
    """Return a document's members, one a line."""
    width = max(len(name) for name in document) + 2
    return "\n".join(f"{name.replace('_', ' '):{width}}{cell(value)}" for name, value in document.items())
