"""The providers' catalogs: one item a service, for ``add``, and one compressed list, for ``services``.

The list is written piece by piece under a new version and then switched to by its head, so that a reader sees the
old list or the new one, whole.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chalicelib.actions import PanelService
from chalicelib.aws.table import Item, Table
from chalicelib.errors import StoreBusy
from chalicelib.model import Service
from chalicelib.ports import Listing

# DynamoDB's items hold 400 KB; a piece stays well below it.
_PIECE = 300_000
# How long a container uses a service's price and limits before it looks again, in µs.
SERVICE_AGE = 30_000_000
_REMEMBERED = 2_000


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, in services; ``at`` in epoch µs. ``left_out`` says in a sentence each what was not taken."""

    total: int
    written: int
    removed: int
    at: int
    left_out: tuple[str, ...] = ()


class DynamoCatalog:
    """Catalogs in the table; see ``ports.Catalog``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``; what is remembered here is at most 30 s old, or named by its version."""
        self._table = table
        self._services: dict[tuple[str, int], tuple[Service | None, int]] = {}
        self._listings: dict[str, Listing] = {}

    def service(self, provider: str, service: int) -> Service | None:
        """Return one service, at most 30 s old."""
        now = self._table.clock.now()
        known, at = self._services.get((provider, service), (None, -SERVICE_AGE))
        if 0 <= now - at < SERVICE_AGE:
            return known
        item = self._table.get(f"P#{provider}", f"SERVICE#{service}")
        found = None if item is None else _service(provider, item)
        if len(self._services) >= _REMEMBERED:
            self._services.clear()
        self._services[provider, service] = found, now
        return found

    def listings(self, providers: Iterable[str]) -> Mapping[str, Listing]:
        """Return the catalogs of the providers that have one."""
        found = self._table.get_many([(f"P#{slug}", "CATALOG") for slug in providers])
        heads = {head["provider"]: head for head in found}
        return {slug: self._listing(slug, head) for slug, head in heads.items()}

    def _listing(self, provider: str, head: Item) -> Listing:
        known = self._listings.get(provider)
        if known is None or known.version != head["version"]:
            known = self._load(provider, head)
            self._listings[provider] = known
        return known

    def _load(self, provider: str, head: Item) -> Listing:
        pieces = self._pieces(provider, head)
        if len(pieces) < head["pieces"]:  # a sync has just switched to its new list and dropped this one
            head = self._table.get(f"P#{provider}", "CATALOG") or head
            pieces = self._pieces(provider, head)
        if len(pieces) < head["pieces"]:
            raise StoreBusy("the catalog is being replaced")
        packed = b"".join(item["data"] for item in sorted(pieces, key=lambda item: item["sk"]))
        rows = json.loads(zlib.decompress(packed))
        return Listing(head["version"], [_service(provider, row) for row in rows])

    def _pieces(self, provider: str, head: Item) -> list[Item]:
        return self._table.get_many([(f"P#{provider}", _piece(head["version"], n)) for n in range(head["pieces"])])

    def synced(self, provider: str) -> int | None:
        """Return when a provider's catalog was last synced, in epoch µs."""
        head = self._table.get(f"P#{provider}", "CATALOG")
        return None if head is None else head["synced"]

    def sync(self, provider: str, services: Sequence[PanelService]) -> SyncReport:
        """Make the stored catalog that of ``services``; what is gone from it is kept, inactive."""
        pk, now = f"P#{provider}", self._table.clock.now()
        wanted = {service.id: _row(service) for service in services}
        stored = {item["id"]: item for item in self._table.query(pk, "SERVICE#")}
        changed = [row for number, row in wanted.items() if _strip(stored.get(number)) != row]
        gone = [
            {**_strip(item), "active": False}
            for number, item in stored.items()
            if number not in wanted and item["active"]
        ]
        self._table.put_many([{"pk": pk, "sk": f"SERVICE#{row['id']}", **row} for row in (*changed, *gone)])
        self._switch(provider, [wanted[number] for number in sorted(wanted)], now)
        return SyncReport(total=len(wanted), written=len(changed), removed=len(gone), at=now)

    def _switch(self, provider: str, rows: Sequence[Item], now: int) -> None:
        pk = f"P#{provider}"
        text = json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()
        version = hashlib.sha256(text).hexdigest()[:32]
        packed = zlib.compress(text, 6)
        pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
        old = self._table.get(pk, "CATALOG")
        self._table.put_many([{"pk": pk, "sk": _piece(version, n), "data": data} for n, data in enumerate(pieces)])
        head = {"provider": provider, "version": version, "pieces": len(pieces), "count": len(rows), "synced": now}
        self._table.put_many([{"pk": pk, "sk": "CATALOG", **head}])
        # Only the pieces of the list that was replaced: others may belong to a sync that runs at the same time.
        if old is not None and old["version"] != version:
            self._table.delete_many([(pk, _piece(old["version"], n)) for n in range(old["pieces"])])


def _piece(version: str, number: int) -> str:
    return f"CATALOG#{version}#{number:04d}"


def _row(service: PanelService) -> Item:
    row: Item = {
        "id": service.id,
        "name": service.name,
        "type": service.type,
        "category": service.category,
        "rate": str(service.rate),
        "min": service.min,
        "max": service.max,
        "refill": service.refill,
        "cancel": service.cancel,
        "active": True,
    }
    if service.dripfeed is not None:
        row["dripfeed"] = service.dripfeed
    return {**row, "extra": dict(service.extra)} if service.extra else row


def _strip(item: Item | None) -> Item:
    return {name: value for name, value in (item or {}).items() if name not in ("pk", "sk")}


def _service(provider: str, row: Mapping[str, Any]) -> Service:
    return Service(
        provider=provider,
        id=row["id"],
        name=row["name"],
        type=row["type"],
        category=row["category"],
        rate=Decimal(row["rate"]),
        min=row["min"],
        max=row["max"],
        refill=row["refill"],
        cancel=row["cancel"],
        dripfeed=row.get("dripfeed"),
        active=row["active"],
        extra=row.get("extra", {}),
    )
