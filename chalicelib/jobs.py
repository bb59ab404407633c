"""Bodies of the scheduled Lambdas: plain functions over the same parts as the gateway."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from chalicelib import testmode
from chalicelib.actions import ListServices, Services
from chalicelib.aws.catalog import SyncReport
from chalicelib.batching import side_by_side
from chalicelib.calling import Window
from chalicelib.clock import MINUTE, SECOND
from chalicelib.errors import PanelgateError, Unavailable
from chalicelib.log import logger
from chalicelib.model import MAX_ID, Order, OrderState, Provider, Source
from chalicelib.ordering import SENDER_GONE
from chalicelib.purchase import RECORD_TIME
from chalicelib.settlement import needs_decision
from chalicelib.wiring import Parts

T = TypeVar("T")

# The next run begins a minute after this one, in µs.
SETTLE_TIME = 50 * SECOND
# An account's least share of it: a slow call that meets a rejection and the reading of another key must fit in. Where a
# panel with many accounts is slow, there is no time for all.
_LEAST_SHARE = 15 * SECOND
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

    return _each([[one] for one in parts.directory.providers().values() if one.enabled], sync, _facts)


def sweep_orders(parts: Parts) -> dict[str, int]:
    """Turn every order whose sender was not heard of in time from SENDING to UNKNOWN. Return counts."""
    latest = parts.clock.now() - SENDER_GONE
    accounts = [*parts.directory.every_account(), testmode.PROVIDER.account]
    overdue = [
        [order]
        for account in accounts
        for order in parts.orders.unsettled(account)
        if order.state is OrderState.SENDING and order.attempt.send_by < latest
    ]

    def lose(order: Order) -> None:
        until = parts.clock.now() + RECORD_TIME
        parts.orders.lose(order, "its sender was not heard of again", until=until, source=Source.SWEEPER)

    return _each(overdue, lose, lambda order: {"order": order.id, "tenant": order.tenant})


def settle_orders(parts: Parts) -> dict[str, int]:
    """Look at the open orders of every account, and settle those whose outcome is not known. Return counts.

    Whoever needs the operator is counted in the log, for the alarm.
    """
    start = parts.clock.now()
    end = start + SETTLE_TIME
    # Whom a run has no time or thread for comes first some time.
    lanes = [_turned(lane, start) for lane in _turned(_lanes(parts), start)]
    shares = {lane[0].slug: len(lane) for lane in lanes}
    waiting = dict(shares)

    def settle(provider: Provider) -> None:
        # Each account of a panel has its share of what time is left.
        now = parts.clock.now()
        time = min(max((end - now) // waiting[provider.slug], _LEAST_SHARE), end - now)
        waiting[provider.slug] -= 1
        if time <= 0:
            return
        # A slow panel, or a fault, must not keep one of the two from the other.
        try:
            parts.following.run(provider, end=now + time * 3 // 5, accounts=shares[provider.slug])
        finally:
            parts.settlement.run(provider, end=now + time)

    try:
        counts = _each(lanes, settle, _facts)
        _each([[testmode.PROVIDER]], lambda _: testmode.settle(parts.test_orders, parts.clock, end=end), _facts)
    finally:
        # The alarm does not depend on what becomes of the rest.
        undecided = sum(1 for _ in needing_decision(parts))
        if undecided:
            logger.error("orders need a decision", extra={"facts": {"count": undecided}})
    return {**counts, "need_decision": undecided}


def _lanes(parts: Parts) -> list[list[Provider]]:
    """Return each enabled provider as it is called with the key of each account that there is or was.

    They are called one after the other: side by side their reads would wait for one another's slots, and give up.
    """
    lanes: dict[str, list[Provider]] = defaultdict(list)
    providers = parts.directory.providers()
    for account in parts.directory.every_account():
        provider = providers.get(account.provider)
        if provider is not None and provider.enabled:
            lanes[provider.slug].append(provider.called_by(account.tenant))
    return list(lanes.values())


def _turned(things: Sequence[T], now: int) -> list[T]:
    """Return things in their order, beginning each minute with the next one."""
    turn = now // MINUTE % max(1, len(things))
    return [*things[turn:], *things[:turn]]


def _facts(provider: Provider) -> dict[str, object]:
    return {"provider": provider.slug, **({"tenant": provider.owner} if provider.owner else {})}


def needing_decision(parts: Parts) -> Iterator[Order]:
    """Yield the orders in the operator's queue."""
    now, providers = parts.clock.now(), parts.directory.providers()
    for account in parts.directory.every_account():
        provider = providers.get(account.provider)
        quiet = provider.quiet if provider else parts.settings.quiet
        waiting = chain(parts.orders.unsettled(account), parts.orders.undecided(account))
        yield from (order for order in waiting if needs_decision(order, quiet, now))


def _each(
    lanes: Iterable[Sequence[T]], act: Callable[[T], object], facts: Callable[[T], dict[str, object]]
) -> dict[str, int]:
    """Do something with each thing: lanes side by side, those of one lane one after the other. Return counts.

    Raises:
        ExceptionGroup: what nobody expected; the others had their turn before.
    """
    defects: list[Exception] = []

    def done(thing: T) -> bool:
        try:
            act(thing)
        except PanelgateError as error:
            logger.error("job failed", extra={"facts": {**facts(thing), "cause": f"{type(error).__name__}: {error}"}})
            return False
        except Exception as error:  # noqa: BLE001 - it is raised below
            logger.error("job failed", extra={"facts": {**facts(thing), "cause": type(error).__name__}})
            defects.append(error)
            return False
        return True

    outcomes = list(chain(*side_by_side(lambda lane: [done(thing) for thing in lane], lanes)))
    if defects:
        raise ExceptionGroup("a job failed", defects)
    return {"done": sum(outcomes), "failed": len(outcomes) - sum(outcomes)}
