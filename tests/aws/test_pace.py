"""The provider's own limit: slots are reserved, waited for, and never given out faster than it allows."""

import threading
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from chalicelib.aws.pace import LEAD, LEASE, DynamoPace
from chalicelib.aws.registry import Registry
from chalicelib.clock import HOUR, MINUTE, SECOND
from chalicelib.errors import Code, Refusal
from chalicelib.model import OrderState, Provider
from chalicelib.panels.dialect import Reply
from tests.faults import faulty, release_lost
from tests.stage import MovableClock
from tests.world import LINK, PretendPanel, World, buys, says


@pytest.fixture
def slow(world: World) -> Provider:
    return world.add_provider(
        Provider(slug="slow", number=0, dialect="perfectpanel", url="https://slow.test/", interval=SECOND, burst=1)
    )


def test_slots_are_an_interval_apart(world: World, slow: Provider) -> None:
    pace, start = DynamoPace(world.parts.table), world.time.at
    slots = [pace.reserve(slow, holder=str(n), latest=start + 10 * SECOND) for n in range(4)]
    assert slots == [start + LEAD + n * SECOND for n in range(4)]


def test_no_slot_is_given_after_the_latest(world: World, slow: Provider) -> None:
    pace, start = DynamoPace(world.parts.table), world.time.at
    slots = [pace.reserve(slow, holder=str(n), latest=start + LEAD + 2 * SECOND) for n in range(5)]
    assert slots == [start + LEAD, start + LEAD + SECOND, start + LEAD + 2 * SECOND, None, None]


def test_slots_of_many_containers_are_an_interval_apart(world: World, slow: Provider) -> None:
    slots: list[int | None] = []

    def reserve(n: int) -> None:
        pace = DynamoPace(world.twin().table)
        slots.append(pace.reserve(slow, holder=str(n), latest=world.time.at + MINUTE))

    threads = [threading.Thread(target=reserve, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = sorted(slot for slot in slots if slot is not None)
    assert len(given) == 12
    assert all(later - earlier >= SECOND for earlier, later in pairwise(given))


def test_spends_wait_for_their_slot_and_are_refused_unsent_when_there_is_none(world: World, slow: Provider) -> None:
    service = 1000 + slow.number
    before = world.time.at
    world.add(service=service)
    world.add(service=service)
    assert world.time.at - before == LEAD + SECOND, "the second one waited"

    pace = DynamoPace(world.parts.table)
    for n in range(30):
        pace.reserve(slow, holder=str(n), latest=world.time.at + MINUTE)
    with pytest.raises(Refusal) as refused:
        world.add(service=service, link=LINK)
    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert len(world.panel.purchases) == 2
    assert world.money() == (100 * SECOND - 2 * 900_000, 0)


def test_a_throttled_call_gets_another_slot(world: World) -> None:
    world.add_provider(
        Provider(slug="mystic", number=0, dialect="mysticsmm", url="https://mystic.test/", interval=SECOND, burst=1)
    )
    asked = []

    def throttles_once(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        asked.append(world.time.at)
        return Reply(429, {}, b'{"error":"Too many requests"}') if len(asked) == 1 else buys(panel, fields)

    world.panel.behaviours["add"] = throttles_once
    order = world.parts.orders.get("acme", world.add(service=1002).order)

    assert order is not None
    assert (order.state, order.attempts) == (OrderState.PLACED, 2)
    assert asked[1] - asked[0] == SECOND
    assert len(world.panel.purchases) == 1


def test_a_call_that_stays_throttled_bought_nothing(world: World) -> None:
    world.add_provider(
        Provider(slug="mystic", number=0, dialect="mysticsmm", url="https://mystic.test/", interval=SECOND, burst=1)
    )
    world.panel.behaviours["add"] = says({"error": "Too many requests"}, 429)
    with pytest.raises(Refusal) as refused:
        world.add(service=1002)
    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert world.panel.asked("add") == 2
    assert world.money() == (100 * SECOND, 0)


def test_a_read_does_not_wait_long_but_answers_what_it_last_knew(world: World, slow: Provider) -> None:
    order = world.add(service=1000 + slow.number).order
    pace = DynamoPace(world.parts.table)
    for n in range(10):
        pace.reserve(slow, holder=str(n), latest=world.time.at + MINUTE)
    before = world.time.at
    assert world.status(order).stale
    assert world.time.at - before <= 2 * SECOND


def test_concurrency_is_held_until_released_or_its_lease_ends(world: World) -> None:
    narrow = world.add_provider(
        Provider(slug="narrow", number=0, dialect="perfectpanel", url="https://narrow.test/", concurrency=2)
    )
    pace = DynamoPace(world.parts.table)
    latest = world.time.at + SECOND
    assert pace.reserve(narrow, holder="a", latest=latest) is not None
    assert pace.reserve(narrow, holder="b", latest=latest) is not None
    assert pace.reserve(narrow, holder="c", latest=latest) is None
    pace.release(narrow, holder="a")
    assert pace.reserve(narrow, holder="c", latest=world.time.at + SECOND) is not None
    world.time.at += LEASE + 2 * SECOND
    assert pace.reserve(narrow, holder="d", latest=world.time.at + SECOND) is not None


def test_a_call_gives_its_concurrency_back(world: World) -> None:
    narrow = world.add_provider(
        Provider(slug="narrow", number=0, dialect="perfectpanel", url="https://narrow.test/", concurrency=1)
    )
    for _ in range(3):
        world.add(service=1000 + narrow.number)
    assert len(world.panel.purchases) == 3


def test_a_purchase_is_recorded_even_if_its_concurrency_is_not_released(world: World) -> None:
    narrow = world.add_provider(
        Provider(slug="narrow", number=0, dialect="perfectpanel", url="https://narrow.test/", concurrency=1)
    )
    receipt = world.add(service=1000 + narrow.number, parts=faulty(world, release_lost))
    assert not receipt.pending
    assert world.money() == (100 * SECOND - 900_000, 0)


def test_a_changed_limit_lends_no_second_burst(world: World, slow: Provider) -> None:
    pace = DynamoPace(world.parts.table)
    first = pace.reserve(slow, holder="a", latest=world.time.at + SECOND)
    assert first is not None
    world.time.at = first
    faster = world.registry.change_provider(slow.slug, partial(replace, interval=SECOND // 2, burst=3))
    slots = [pace.reserve(faster, holder=str(n), latest=first + 2 * SECOND) for n in range(3)]
    assert slots == [first + SECOND // 2, first + SECOND, first + 3 * SECOND // 2]


def test_a_changed_limit_heeds_the_slots_that_were_given_ahead(world: World, slow: Provider) -> None:
    pace = DynamoPace(world.parts.table)
    given = [pace.reserve(slow, holder=str(n), latest=world.time.at + MINUTE) for n in range(4)]
    faster = world.registry.change_provider(slow.slug, partial(replace, interval=SECOND // 2))
    assert given[3] is not None
    assert pace.reserve(faster, holder="a", latest=given[3] + SECOND // 2 - 1) is None
    assert pace.reserve(faster, holder="b", latest=world.time.at + MINUTE) == given[3] + SECOND // 2


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_an_operators_clock_that_is_wrong_neither_stops_a_provider_nor_frees_it(
    world: World, slow: Provider, off: int
) -> None:
    pace = DynamoPace(world.parts.table)
    given = [pace.reserve(slow, holder=str(n), latest=world.time.at + MINUTE) for n in range(2)]
    assert given[1] is not None
    operator = MovableClock(world.time.at + off)
    registry = Registry(world.twin(clock=operator.clock).table)
    faster = registry.change_provider(slow.slug, partial(replace, interval=SECOND // 2))
    slot = pace.reserve(faster, holder="a", latest=world.time.at + MINUTE)
    assert slot is not None
    assert given[1] + SECOND // 2 <= slot <= given[1] + SECOND + SECOND // 2
