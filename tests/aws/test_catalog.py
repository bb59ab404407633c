"""Catalogs: one item a service, and a list that is switched to whole."""

from dataclasses import replace
from decimal import Decimal

from chalicelib.jobs import sync_catalog
from chalicelib.model import Provider
from tests.world import FOLLOWERS, World, says


def _listed(world: World) -> list[int]:
    return [service.id for service in world.twin().catalog.listings(["smosale"])["smosale"].services]


def test_a_sync_writes_what_changed_and_keeps_what_is_gone_inactive(world: World) -> None:
    report = world.parts.catalog.sync("smosale", [replace(FOLLOWERS, rate=Decimal("1.20"))])

    assert (report.total, report.written, report.removed) == (1, 1, 1)
    assert _listed(world) == [1]
    later = world.twin().catalog
    changed, gone = later.service("smosale", 1), later.service("smosale", 2)
    assert changed is not None
    assert changed.rate == Decimal("1.20")
    assert gone is not None
    assert not gone.active


def test_a_service_that_comes_back_is_active_again(world: World) -> None:
    world.parts.catalog.sync("smosale", [])
    world.parts.catalog.sync("smosale", [FOLLOWERS])
    back = world.twin().catalog.service("smosale", 1)
    assert back is not None
    assert back.active


def test_a_container_looks_again_after_half_a_minute(world: World) -> None:
    assert world.parts.catalog.service("smosale", 1) is not None
    world.twin().catalog.sync("smosale", [replace(FOLLOWERS, min=75)])
    old = world.parts.catalog.service("smosale", 1)
    world.time.sleep(30)
    new = world.parts.catalog.service("smosale", 1)
    assert old is not None
    assert new is not None
    assert (old.min, new.min) == (50, 75)


def test_a_large_catalog_comes_in_pieces(world: World) -> None:
    many = [
        replace(FOLLOWERS, id=number, name=f"Service {number * 7919 % 104_729} of {number * 104_651 % 999_983}")
        for number in range(1, 3001)
    ]
    world.parts.catalog.sync("smosale", many)
    head = world.parts.table.get("P#smosale", "CATALOG")
    assert head is not None
    assert head["count"] == 3000
    assert _listed(world) == list(range(1, 3001))
    world.parts.catalog.sync("smosale", [FOLLOWERS])
    assert len(list(world.parts.table.query("P#smosale", "CATALOG#"))) == 1, "old pieces are dropped"


def test_ids_that_would_not_fit_are_left_out(world: World) -> None:
    provider = world.registry.provider("smosale")
    rows = [_row(1), _row(2_147_482), _row(2_147_484)]
    world.panel.behaviours["services"] = says(rows)
    report = sync_catalog(world.parts, provider)
    assert report.total == 2
    assert report.left_out == ("service 2147484: its public id would pass 2^31 - 1",)
    assert _listed(world) == [1, 2_147_482]


def _row(number: int) -> dict[str, object]:
    return {"service": number, "name": "n", "type": "Default", "category": "c", "rate": "1", "min": "1", "max": "2"}


def test_a_provider_without_a_catalog_offers_nothing(world: World) -> None:
    world.registry.add_provider(Provider(slug="new", number=0, dialect="perfectpanel", url="https://new.test/"))
    assert world.parts.catalog.listings(["new"]) == {}
    assert world.parts.catalog.service("new", 1) is None


def test_extra_fields_are_kept(world: World) -> None:
    service = replace(FOLLOWERS, extra={"speed": "fast"})
    world.parts.catalog.sync("smosale", [service])
    [listed] = world.twin().catalog.listings(["smosale"])["smosale"].services
    assert listed.extra == {"speed": "fast"}
