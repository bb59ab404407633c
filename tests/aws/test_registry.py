"""What operators set: acts at once do not undo one another, and one that broke off is mended by doing it again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import Any

import pytest

from chalicelib.aws.pace import DynamoPace
from chalicelib.aws.registry import MAX_ORIGINS, Full, Missing, Registry
from chalicelib.clock import SECOND
from chalicelib.model import Provider, Tenant
from tests.faults import TRANSACT, faulty
from tests.world import World

PAGE, OTHER_PAGE = "https://shop.example", "https://till.example"
SHOP = Tenant(id="shop", origins=frozenset({PAGE}))
SLOWER = partial(replace, interval=SECOND, burst=1)


def while_others(world: World, act: Callable[[], object]) -> Registry:
    """Return the registry of an operator who has read when somebody else acts."""
    acts = [act]

    def meanwhile(name: str, _request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if name == TRANSACT and acts:
            acts.pop()()
        return call()

    return Registry(faulty(world, meanwhile).table)


def limiter(world: World) -> dict[str, Any]:
    item = world.parts.table.get("P#smosale", "PACE")
    assert item is not None
    return item


# -- tenants -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(world: World) -> World:
    world.add_tenant(SHOP)
    return world


def test_of_two_changes_at_once_both_hold(shop: World) -> None:
    guarded = partial(replace, origins=frozenset[str](), daily_spend=50 * SECOND)
    slow = while_others(shop, lambda: shop.registry.change_tenant("shop", guarded))
    expected = replace(SHOP, origins=frozenset(), daily_spend=50 * SECOND, dedupe=120)
    assert slow.change_tenant("shop", partial(replace, dedupe=120)) == expected
    assert shop.registry.tenant("shop") == expected
    assert not shop.parts.directory.origin_listed(PAGE)


def test_an_origin_that_two_changes_take_and_give_is_listed_as_its_tenant_says(shop: World) -> None:
    taken, given = (partial(replace, origins=frozenset(origins)) for origins in ((), (PAGE, OTHER_PAGE)))
    while_others(shop, lambda: shop.registry.change_tenant("shop", taken)).change_tenant("shop", given)
    assert shop.registry.tenant("shop").origins == {PAGE, OTHER_PAGE}
    assert [shop.parts.directory.origin_listed(page) for page in (PAGE, OTHER_PAGE)] == [True, True]


def test_what_is_checked_about_settings_is_checked_of_those_that_are_stored(shop: World) -> None:
    """Each of two changes may be right, and both together not."""

    def only(**changes: Any) -> Callable[[Tenant], Tenant]:
        def change(stored: Tenant) -> Tenant:
            if stored != SHOP:
                raise ValueError
            return replace(stored, **changes)

        return change

    slow = while_others(shop, lambda: shop.registry.change_tenant("shop", only(burst=1)))
    with pytest.raises(ValueError):  # noqa: PT011 - it is this test's own
        slow.change_tenant("shop", only(burst=2))
    assert shop.registry.tenant("shop").burst == 1


def test_changes_by_many_operators_at_once_all_hold(shop: World) -> None:
    changes: list[dict[str, Any]] = [
        {"dedupe": 7},
        {"daily_spend": 7 * SECOND},
        {"origins": frozenset({OTHER_PAGE})},
        {"burst": 7},
        {"require_idempotency": True},
    ]
    barrier = Barrier(len(changes))

    def change(settings: dict[str, Any]) -> Tenant:
        registry = Registry(shop.twin().table)
        barrier.wait()
        return registry.change_tenant("shop", partial(replace, **settings))

    with ThreadPoolExecutor(len(changes)) as threads:
        list(threads.map(change, changes))
    everything = {name: value for settings in changes for name, value in settings.items()}
    assert shop.registry.tenant("shop") == replace(SHOP, **everything)
    assert [shop.parts.directory.origin_listed(page) for page in (PAGE, OTHER_PAGE)] == [False, True]


def test_a_lost_origin_is_listed_again_by_the_next_change(shop: World) -> None:
    shop.parts.table.delete_many([(f"ORIGIN#{PAGE}", "shop")])
    shop.registry.change_tenant("shop", partial(replace, dedupe=60))
    assert shop.parts.directory.origin_listed(PAGE)


def test_a_change_ends_no_suspension_and_takes_no_own_key_away(shop: World) -> None:
    def acts() -> None:
        shop.registry.set_active("shop", active=False)
        shop.registry.set_own_key("shop", "smosale", is_used=True)

    while_others(shop, acts).change_tenant("shop", partial(replace, dedupe=60))
    expected = replace(SHOP, active=False, own_keys=frozenset({"smosale"}), dedupe=60)
    assert shop.registry.tenant("shop") == expected


def test_a_tenant_that_is_not_there_is_not_changed(world: World) -> None:
    with pytest.raises(Missing, match="no tenant nobody"):
        world.registry.change_tenant("nobody", partial(replace, dedupe=60))
    with pytest.raises(Missing, match="no tenant nobody"):
        world.registry.set_active("nobody", active=False)
    assert world.parts.table.get("T#nobody", "TENANT") is None


def pages(count: int, name: str = "shop") -> frozenset[str]:
    return frozenset(f"https://{name}-{number}.example" for number in range(count))


def test_all_origins_that_there_is_room_for_may_be_replaced_at_once(world: World) -> None:
    world.registry.create_tenant(replace(SHOP, origins=pages(MAX_ORIGINS)))
    others = pages(MAX_ORIGINS, "till")
    assert world.registry.change_tenant("shop", partial(replace, origins=others)).origins == others
    assert {page for page in others | pages(MAX_ORIGINS) if world.parts.directory.origin_listed(page)} == others


def test_more_origins_than_there_is_room_for_are_refused(shop: World) -> None:
    many = pages(MAX_ORIGINS + 1)
    with pytest.raises(Full, match=f"room for {MAX_ORIGINS} origins"):
        shop.registry.change_tenant("shop", partial(replace, origins=many))
    with pytest.raises(Full, match=f"room for {MAX_ORIGINS} origins"):
        shop.registry.create_tenant(Tenant(id="mall", origins=many))
    assert shop.registry.tenant("shop").origins == {PAGE}
    assert [one.id for one in shop.registry.tenants()] == ["acme", "shop"]


# -- providers ---------------------------------------------------------------------------------------------------------


def test_a_change_of_a_provider_applies_as_a_whole(world: World) -> None:
    world.registry.change_provider("smosale", partial(replace, interval=SECOND // 10, burst=10))

    def dies() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        while_others(world, dies).change_provider("smosale", SLOWER)
    assert (world.registry.provider("smosale").burst, limiter(world)["burst"]) == (10, 10)
    world.registry.change_provider("smosale", SLOWER)
    assert (world.registry.provider("smosale").interval, limiter(world)["interval"]) == (SECOND, SECOND)


def test_a_limiter_that_differs_from_its_provider_is_mended_by_the_next_change(world: World) -> None:
    provider = world.registry.change_provider("smosale", SLOWER)
    world.parts.table.put_many([{**limiter(world), "interval": 1, "burst": 9, "slack": 7, "concurrency": 5}])
    world.registry.change_provider("smosale", lambda stored: stored)
    assert world.registry.provider("smosale") == provider
    mended = limiter(world)
    assert {name: mended.get(name) for name in ("interval", "burst", "slack", "concurrency")} == {
        "interval": SECOND,
        "burst": 1,
        "slack": -SECOND,
        "concurrency": None,
    }


def test_a_changed_limit_forgets_no_call_that_is_under_way(world: World) -> None:
    pace = DynamoPace(world.parts.table)
    narrow = world.registry.change_provider("smosale", partial(replace, concurrency=1))
    assert pace.reserve(narrow, holder="a", latest=world.time.at + SECOND) is not None
    wider = world.registry.change_provider("smosale", partial(replace, concurrency=2, interval=1))
    assert pace.reserve(wider, holder="b", latest=world.time.at + SECOND) is not None
    assert pace.reserve(wider, holder="c", latest=world.time.at + SECOND) is None


def test_a_change_beside_a_stop_does_not_undo_it(world: World) -> None:
    def stop() -> Provider:
        return world.registry.set_enabled("smosale", enabled=False)

    while_others(world, stop).change_provider("smosale", partial(replace, quiet=60))
    stopped = world.registry.provider("smosale")
    assert (stopped.enabled, stopped.quiet) == (False, 60)
    assert world.registry.set_enabled("smosale", enabled=True) == replace(stopped, enabled=True)
    with pytest.raises(Missing, match="no provider nobody"):
        world.registry.set_enabled("nobody", enabled=True)


def test_of_two_changes_of_a_provider_at_once_both_hold(world: World) -> None:
    before = world.registry.provider("smosale")
    slow = while_others(world, lambda: world.registry.change_provider("smosale", SLOWER))
    slow.change_provider("smosale", partial(replace, quiet=60))
    assert world.registry.provider("smosale") == replace(before, interval=SECOND, burst=1, quiet=60)
    assert limiter(world)["interval"] == SECOND


def test_a_change_does_not_bring_a_provider_back_that_was_removed(world: World) -> None:
    slow = while_others(world, lambda: world.registry.remove_provider("smosale"))
    with pytest.raises(Missing, match="no provider smosale"):
        slow.change_provider("smosale", SLOWER)
    assert world.registry.providers() == []
