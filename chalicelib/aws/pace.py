"""The providers' own limits: a slot is reserved by one conditional update and then waited for."""

from chalicelib.aws import limits
from chalicelib.aws.table import ConditionFailed, Item, Table, Write
from chalicelib.errors import StoreBusy, Unavailable
from chalicelib.log import logger
from chalicelib.model import Provider

# A process that died holds its share of a provider's concurrency no longer than this, in µs: no request lives longer.
LEASE = 30_000_000
# A slot lies at least this far ahead, in µs: the reservation takes a round trip itself, and a call that leaves late
# comes too close to the one after it, whose slot is exact.
LEAD = 100_000
_POLL = 0.1


class DynamoPace:
    """Slots at providers; see ``ports.Pace``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table
        self._full_at: dict[str, int] = {}

    def reserve(self, provider: Provider, *, holder: str, latest: int) -> int | None:
        """Reserve the next slot for a call, not after ``latest``; return its time, or None if all are taken."""
        clock = self._table.clock
        while (now := clock.now()) < latest:
            soonest = now + LEAD if provider.interval else now
            full = self._full_at.get(provider.slug, 0) < soonest
            try:
                item = self._table.write(_reservation(provider, holder, soonest, latest, full=full), until=latest)
            except ConditionFailed as failure:
                item = failure.old or {}
                if not item:
                    raise Unavailable("the provider has no limiter") from None
            except StoreBusy:
                return None
            else:
                self._full_at[provider.slug] = item["tat"]
                return soonest if full else max(soonest, item["gate"] - item["interval"])
            if _crowded(item, holder):
                clock.sleep(_POLL)
                self._evict(provider, item, now)
            elif item["tat"] >= soonest and item["gate"] > latest:
                return None
            self._full_at[provider.slug] = item["tat"]
        return None

    def release(self, provider: Provider, *, holder: str) -> None:
        """Give back the concurrency that a reservation took; a lost release ends with its lease."""
        write = Write(
            f"P#{provider.slug}",
            "PACE",
            update="REMOVE #inflight.#holder",
            condition="attribute_exists(pk)",
            names={"#inflight": "inflight", "#holder": holder},
        )
        try:
            self._table.write(write, until=self._table.clock.now())
        except (StoreBusy, ConditionFailed):
            # One try: whoever called has an answer to take care of, which matters more.
            logger.warning("concurrency not released", extra={"facts": {"provider": provider.slug}})

    def _evict(self, provider: Provider, item: Item, now: int) -> None:
        """Drop leases whose holders are gone."""
        for holder, end in item["inflight"].items():
            if end <= now:
                self.release(provider, holder=holder)


def _crowded(item: Item, holder: str) -> bool:
    limit = item.get("concurrency")
    return limit is not None and holder not in item["inflight"] and len(item["inflight"]) >= limit


def _reservation(provider: Provider, holder: str, now: int, latest: int, *, full: bool) -> Write:
    update = limits.RESTART if full else limits.ADVANCE
    condition = limits.FULL if full else limits.FILLING
    names = limits.names(full=full)
    values: Item = {":now": now} if full else {":now": now, ":latest": latest}
    if provider.concurrency is not None:
        update += ", #inflight.#holder = :lease"
        # The holder itself is in there when the reply to an earlier try was lost.
        condition += " AND (size(#inflight) < #concurrency OR attribute_exists(#inflight.#holder))"
        names |= {"#inflight": "inflight", "#holder": holder, "#concurrency": "concurrency"}
        values[":lease"] = latest + LEASE
    return Write(f"P#{provider.slug}", "PACE", update=update, condition=condition, names=names, values=values)
