"""Long lists in pages: Lambda answers with at most 6 MB, so we render no more than 5.5 MB (contract 2)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib import money
from chalicelib.api.answers import to_json
from chalicelib.offering import Offer

MAX_PAGE = 5_500_000


@dataclass(frozen=True, slots=True)
class Page:
    """A JSON array, and the id with which the next page begins, if there is one."""

    body: str
    next: int | None


def service_row(offer: Offer) -> dict[str, Any]:
    """Return a service as both versions list it: whole numbers for ids, text for prices and limits."""
    service = offer.service
    return {
        "service": offer.id,
        "name": service.name,
        "type": service.type,
        "category": service.category,
        "rate": money.text(offer.rate),
        "min": str(service.min),
        "max": str(service.max),
        "refill": service.refill,
        "cancel": service.cancel,
        "dripfeed": bool(service.dripfeed),
    }


def first_page(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Page:
    """Return as many rows, each with its id, as one page holds. JSON here is ASCII: characters are bytes."""
    texts: list[str] = []
    size = 2
    for number, row in rows:
        text = to_json(row)
        size += len(text) + 1
        if size > MAX_PAGE:
            return Page(f"[{','.join(texts)}]", number)
        texts.append(text)
    return Page(f"[{','.join(texts)}]", None)
