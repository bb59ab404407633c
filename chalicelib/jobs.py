"""Bodies of the scheduled Lambdas: plain functions over the same parts as the gateway."""

from collections.abc import Callable
from typing import TypeVar

from chalicelib.actions import ListServices, Services
from chalicelib.aws.catalog import DynamoCatalog, SyncReport
from chalicelib.calling import MICROSECOND, Caller, Window
from chalicelib.errors import PanelgateError, Unavailable
from chalicelib.gateway import SENDER_GONE
from chalicelib.log import logger
from chalicelib.model import MAX_ID, MAX_PROVIDER_NUMBER, Provider
from chalicelib.purchase import RECORD_TIME
from chalicelib.wiring import Parts

T = TypeVar("T")

# A catalog may be large and its panel slow; a schedule has more time than a request.
SYNC_TIME = 25 * MICROSECOND


def sync_catalog(provider: Provider, *, caller: Caller, catalog: DynamoCatalog, now: int) -> SyncReport:
    """Fetch a provider's services and store them.

    Services whose public id would pass 2^31 - 1 are refused (contract 7), and so are rows that cannot be read; both
    are logged.

    Raises:
        PanelgateError: the provider could not be reached or understood; the stored catalog stays as it was.
    """
    window = Window(slot_by=now + SYNC_TIME // 2, send_by=now + SYNC_TIME, deadline=now + SYNC_TIME)
    answer = caller.ask(provider, ListServices(), window)
    if not isinstance(answer, Services):
        cause = f"the provider refused to list its services: {getattr(answer, 'reason', 'unknown')}"
        raise Unavailable(cause)
    highest = (MAX_ID - provider.number) // (MAX_PROVIDER_NUMBER + 1)
    fitting = [service for service in answer.services if service.id <= highest]
    skipped = [
        *answer.skipped,
        *(f"service {s.id}: its public id would pass 2^31 - 1" for s in answer.services if s.id > highest),
    ]
    if skipped:
        facts = {"provider": provider.slug, "skipped": len(skipped), "first": skipped[0]}
        logger.warning("services left out", extra={"facts": facts})
    return catalog.sync(provider.slug, fitting)


def sync_catalogs(parts: Parts) -> dict[str, int]:
    """Sync every enabled provider; one that fails does not keep the others from it. Return counts."""
    return _each(
        [provider for provider in parts.directory.providers().values() if provider.enabled],
        lambda provider: sync_catalog(provider, caller=parts.caller, catalog=parts.catalog, now=parts.clock.now()),
        lambda provider: {"provider": provider.slug},
    )


def sweep_orders(parts: Parts) -> dict[str, int]:
    """Turn every order whose sender was not heard of in time from SENDING to UNKNOWN. Return counts."""
    orders = parts.orders
    now = parts.clock.now()
    return _each(
        list(orders.overdue(now - SENDER_GONE)),
        lambda order: orders.lose(order, "its sender was not heard of again", until=now + 4 * RECORD_TIME),
        lambda order: {"order": order.id, "tenant": order.tenant},
    )


def _each(things: list[T], act: Callable[[T], object], facts: Callable[[T], dict[str, object]]) -> dict[str, int]:
    done = failed = 0
    for thing in things:
        try:
            act(thing)
        except PanelgateError as error:
            failed += 1
            logger.error("job failed", extra={"facts": {**facts(thing), "cause": f"{type(error).__name__}: {error}"}})
        else:
            done += 1
    return {"done": done, "failed": failed}
