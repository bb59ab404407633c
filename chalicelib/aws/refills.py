"""The refills that panels accepted, under ids of ours; see ``ports.Refills``."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from chalicelib.aws.table import ConditionFailed, Item, Table, Write
from chalicelib.errors import StoreBusy
from chalicelib.model import Refill, RefillStatus, random_id

# Drawing a free id out of 2^31 fails this often only if the tenant has used nearly all of them.
_DRAWS = 8


class DynamoRefills:
    """Refills in the table; see ``ports.Refills``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    def add(self, refill: Refill, *, until: int) -> Refill:
        """Store a refill under a free id, which may not be the given one, and return it."""
        for _ in range(_DRAWS):
            write = Write(*_key(refill), put=_item(refill), condition="attribute_not_exists(pk)")
            try:
                self._table.write(write, until=until)
            except ConditionFailed as failure:
                if failure.old is not None and failure.old.items() >= _item(refill).items():
                    return refill  # our own write, whose reply was lost
                refill = replace(refill, id=random_id())
            else:
                return refill
        raise StoreBusy("no free refill id was found")

    def get_many(self, tenant: str, refills: Iterable[int]) -> Mapping[int, Refill]:
        """Return those of the refills that the tenant has, by id."""
        items = self._table.get_many([(f"T#{tenant}", f"REFILL#{refill}") for refill in refills])
        return {item["id"]: _refill(tenant, item) for item in items}

    def observe(self, refill: Refill, *, until: int) -> None:
        """Keep how a refill is doing, if that was read later than what is stored."""
        write = Write(
            *_key(refill),
            update="SET #status = :status, #at = :at",
            condition="#at < :at",
            names={"#status": "status", "#at": "at"},
            values={":status": refill.status.value, ":at": refill.at},
        )
        try:
            self._table.write(write, until=until)
        except ConditionFailed:
            return  # a neighbour has read later than we did


def _key(refill: Refill) -> tuple[str, str]:
    return f"T#{refill.tenant}", f"REFILL#{refill.id}"


def _item(refill: Refill) -> Item:
    item: Item = {
        "id": refill.id,
        "order": refill.order,
        "provider": refill.provider,
        "status": refill.status.value,
        "created_at": refill.created,
        "at": refill.at,
    }
    optional = {
        "provider_refill": refill.provider_refill,
        "own_key": refill.own_key or None,
        "audience": refill.audience,
    }
    return {**item, **{name: value for name, value in optional.items() if value is not None}}


def _refill(tenant: str, item: Item) -> Refill:
    return Refill(
        id=item["id"],
        tenant=tenant,
        order=item["order"],
        provider=item["provider"],
        provider_refill=item.get("provider_refill"),
        status=RefillStatus(item["status"]),
        created=item["created_at"],
        at=item["at"],
        own_key=item.get("own_key", False),
        audience=item.get("audience"),
    )
