"""Bodies of the scheduled Lambdas: plain functions over the same parts as the gateway."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from chalicelib.actions import ListServices, Services
from chalicelib.aws.catalog import SyncReport
from chalicelib.calling import Window
from chalicelib.errors import PanelgateError, Unavailable
from chalicelib.log import logger
from chalicelib.model import MAX_ID, Order, Provider
from chalicelib.ordering import SENDER_GONE
from chalicelib.ports import SECOND
from chalicelib.purchase import RECORD_TIME
from chalicelib.wiring import Parts

T = TypeVar("T")

# A catalog may be large and its panel slow; a schedule has more time than a request.
SYNC_TIME = 25 * SECOND


def sync_catalog(parts: Parts, provider: Provider) -> SyncReport:
    """Fetch a provider's services and store them.

    Left out, and named in the report, are rows that cannot be read and services whose public id would pass 2^31 - 1
    (contract 7).

    Raises:
        PanelgateError: the provider could not be reached or understood; the stored catalog stays as it was.
    """
    now = parts.clock.now()
    window = Window(slot_by=now + SYNC_TIME // 2, send_by=now + SYNC_TIME, deadline=now + SYNC_TIME)
    answer = parts.caller.ask(provider, ListServices(), window)
    if not isinstance(answer, Services):
        raise Unavailable(f"the provider refused to list its services: {getattr(answer, 'reason', 'unknown')}")
    fitting = [service for service in answer.services if provider.global_id(service.id) <= MAX_ID]
    beyond = [service.id for service in answer.services if provider.global_id(service.id) > MAX_ID]
    left_out = (*answer.skipped, *(f"service {number}: its public id would pass 2^31 - 1" for number in beyond))
    return replace(parts.catalog.sync(provider.slug, fitting), left_out=left_out)


def sync_catalogs(parts: Parts) -> dict[str, int]:
    """Sync every enabled provider; one that fails does not keep the others from it. Return counts."""

    def sync(provider: Provider) -> None:
        left_out = sync_catalog(parts, provider).left_out
        if left_out:
            facts = {"provider": provider.slug, "count": len(left_out), "first": left_out[0]}
            logger.warning("services left out", extra={"facts": facts})

    providers = [provider for provider in parts.directory.providers().values() if provider.enabled]
    return _each(providers, sync, lambda provider: {"provider": provider.slug})


def sweep_orders(parts: Parts) -> dict[str, int]:
    """Turn every order whose sender was not heard of in time from SENDING to UNKNOWN. Return counts."""

    def lose(order: Order) -> None:
        parts.orders.lose(order, "its sender was not heard of again", until=parts.clock.now() + RECORD_TIME)

    overdue = list(parts.orders.overdue(parts.clock.now() - SENDER_GONE))
    return _each(overdue, lose, lambda order: {"order": order.id, "tenant": order.tenant})


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
