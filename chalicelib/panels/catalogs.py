"""A list of services: rows of any shape, read one by one, so that a bad one costs no good one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from chalicelib.actions import PanelService, Services
from chalicelib.errors import UnreadableReply
from chalicelib.panels import reading

Value = TypeVar("Value")

_WRAPPINGS = ("services", "data")
_TOTALS = ("total", "total_count", "total_services", "count")
_NEXT = ("next", "next_page", "next_page_url", "next_cursor", "next_offset", "has_more", "offset")


@dataclass(frozen=True, slots=True)
class Catalog:
    """How a dialect lists services.

    ``columns`` are its names of our fields, ``types`` its names of our types of services, and ``extras`` its names of
    what some panels say besides.
    """

    columns: Mapping[str, str]
    types: Mapping[str, str]
    extras: Mapping[str, str]

    def read(self, document: object) -> Services:
        """Return the services of a reply, and what is wrong with the rows that cannot be read.

        Raises:
            UnreadableReply: it is no list, not the whole list, or no row of it can be read.
        """
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
        said = row.get(self.columns["id"], name)
        number = reading.identifier(said)
        if number is None:
            raise UnreadableReply(f"no service id that is a number: {reading.scalar(said, 60) or 'none'}")
        try:
            return self._described(number, row)
        except UnreadableReply as error:
            raise UnreadableReply(f"service {number}: {error}") from None

    def _described(self, number: int, row: Mapping[str, object]) -> PanelService:
        given = {ours: row.get(theirs) for ours, theirs in self.columns.items()}
        least, most = _limits(given["min"], given["max"])
        return PanelService(
            id=number,
            name=_needed(reading.label(given["name"]) or None, "name"),
            type=reading.service_type(given.get("type"), self.types),
            category=reading.label(given.get("category")),
            rate=_needed(reading.price(given["rate"]), "rate"),
            min=least,
            max=most,
            refill=reading.flag(given.get("refill")) or False,
            cancel=reading.flag(given.get("cancel")) or False,
            dripfeed=reading.flag(given.get("dripfeed")),
            extra=dict(self._extras(row)),
        )

    def _extras(self, row: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        for name, ours in self.extras.items():
            if text := reading.prose(row.get(name)):
                yield ours, text


def _rows(document: object) -> Iterable[tuple[object, object]]:
    """Return a catalog's rows, each with the key it stands under, if it has one (protocol.md 1.4)."""
    wrappings, listed = _opened(document)
    if isinstance(listed, list):
        rows = [(None, row) for row in listed]
    elif isinstance(listed, dict) and listed and all(map(reading.identifier, listed)):
        rows = [*listed.items()]
    elif reading.word(listed) == "emptydata" and wrappings:
        # SmartPanel wraps a sentence instead of a list.
        rows = []
    else:
        raise UnreadableReply("no list of services")
    if any(_is_page(wrapping, len(rows)) for wrapping in wrappings):
        # Services that stand on the other pages would be put out of use.
        raise UnreadableReply(f"a page of {len(rows)} services, not the whole list")
    return rows


def _opened(document: object) -> tuple[list[Mapping[str, object]], object]:
    wrappings: list[Mapping[str, object]] = []
    while isinstance(document, dict) and (name := next((name for name in _WRAPPINGS if name in document), None)):
        wrappings.append(document)
        document = document[name]
    return wrappings, document


def _is_page(wrapping: Mapping[str, object], rows: int) -> bool:
    """Say whether what wraps a list says that there is more: by a total if it has one, else by a way to go on."""
    total = next((total for name in _TOTALS if (total := reading.count(wrapping.get(name))) is not None), None)
    if total is not None:
        return total > rows
    return any(wrapping.get(name) not in (None, False, "") for name in _NEXT)


def _limits(least: object, most: object) -> tuple[int, int]:
    low = _needed(reading.natural(least), "minimum")
    high = _needed(reading.natural(most), "maximum")
    if high < low:
        raise UnreadableReply("the maximum is below the minimum")
    return low, high


def _needed(value: Value | None, what: str) -> Value:
    if value is None:
        raise UnreadableReply(f"no readable {what}")
    return value
