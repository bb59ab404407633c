"""Clients and their keys: each act is one transaction, so that no two of them, and no request, undo one another."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier

import pytest

from chalicelib.aws.clients import MAX_KEYS, Client, Clients, IssuedKey
from chalicelib.aws.directory import ISSUERS
from chalicelib.aws.registry import Full, Missing, Registry
from chalicelib.aws.table import Item, Table
from chalicelib.clock import HOUR, SECOND
from chalicelib.keys import parse_client_key
from chalicelib.ports import Admission, Admitted, Stranger, Suspended
from tests.api.http import v3
from tests.world import World

Act = Callable[[Table], object]


def admission(world: World, key: str, *, at: int | None = None) -> Admission:
    parsed = parse_client_key(key)
    assert parsed is not None
    return world.parts.directory.admit(parsed, now=world.time.at if at is None else at)


def works(world: World, key: str, *, at: int | None = None) -> bool:
    return isinstance(admission(world, key, at=at), Admitted)


def stored_keys(world: World) -> dict[str, Item]:
    item = world.parts.table.get("T#acme", "TENANT")
    assert item is not None
    return dict(item["keys"])


def listed(world: World, issued: IssuedKey) -> Client:
    [client] = [one for one in world.clients.of("acme") if one.id == issued.client.id]
    return client


def at_once(world: World, *acts: Act) -> list[object]:
    """Begin all acts together, each with a way to the table of its own; return what they gave or raised."""
    barrier = Barrier(len(acts))

    def run(act: Act) -> object:
        table = world.twin().table
        barrier.wait()
        try:
            return act(table)
        except (Missing, Full) as error:
            return error

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


def rotated(client_id: str, overlap: int) -> Act:
    return lambda table: Clients(table).rotate(client_id, overlap=overlap)


def revoked(client_id: str) -> Act:
    return lambda table: Clients(table).revoke(client_id)


# -- one after the other -----------------------------------------------------------------------------------------------


def test_the_old_key_works_until_the_overlap_is_over_and_not_longer(world: World) -> None:
    old = world.clients.create("acme")
    new = world.clients.rotate(old.client.id, overlap=HOUR)
    end = world.time.at + HOUR
    assert new.client.id == old.client.id
    assert works(world, old.key, at=end - 1)
    assert isinstance(admission(world, old.key, at=end), Stranger)
    assert works(world, new.key, at=end)


def test_without_an_overlap_the_old_key_is_gone_whatever_the_containers_clock_says(world: World) -> None:
    old = world.clients.create("acme")
    new = world.clients.rotate(old.client.id, overlap=0)
    assert isinstance(admission(world, old.key, at=world.time.at - 300 * SECOND), Stranger)
    assert works(world, new.key)


def test_no_old_key_outlives_the_newest_overlap_and_none_is_prolonged(world: World) -> None:
    first = world.clients.create("acme")
    second = world.clients.rotate(first.client.id, overlap=2 * HOUR)
    third = world.clients.rotate(first.client.id, overlap=HOUR)
    assert works(world, first.key)
    assert works(world, second.key)
    assert not works(world, first.key, at=world.time.at + HOUR), "the newer overlap is shorter"
    assert not works(world, second.key, at=world.time.at + HOUR)
    fourth = world.clients.rotate(first.client.id, overlap=7 * 24 * HOUR)
    assert not works(world, second.key, at=world.time.at + HOUR), "the newer overlap is longer"
    assert works(world, third.key, at=world.time.at + HOUR)
    fifth = world.clients.rotate(first.client.id, overlap=0)
    world.time.at += HOUR
    assert [works(world, one.key) for one in (first, second, third, fourth, fifth)] == [False] * 4 + [True]


def test_a_rotated_key_expires_with_its_client(world: World) -> None:
    old = world.clients.create("acme", actions=["balance"], expires=world.time.at + HOUR)
    new = world.clients.rotate(old.client.id, overlap=2 * HOUR)
    [kept, given] = [admission(world, one.key, at=world.time.at) for one in (old, new)]
    assert isinstance(kept, Admitted)
    assert isinstance(given, Admitted)
    assert kept.scope == given.scope
    assert [works(world, one.key, at=world.time.at + HOUR) for one in (old, new)] == [False, False]
    world.time.at += HOUR
    with pytest.raises(Missing, match="has expired"):
        world.clients.rotate(old.client.id, overlap=0)


def test_what_is_revoked_stays_so(world: World) -> None:
    old = world.clients.create("acme")
    new = world.clients.rotate(old.client.id, overlap=HOUR)
    world.clients.revoke(old.client.id)
    world.clients.revoke(old.client.id)
    assert [type(admission(world, one.key)) for one in (old, new)] == [Stranger, Stranger]
    with pytest.raises(Missing, match="was revoked"):
        world.clients.rotate(old.client.id, overlap=HOUR)
    assert listed(world, old).keys == ()
    assert works(world, world.key), "another client's key"


def test_keys_that_have_expired_make_room(world: World) -> None:
    short = world.clients.create("acme", name="short", expires=world.time.at + HOUR)
    works(world, short.key, at=world.time.at + 1)
    for _ in range(MAX_KEYS - 2):
        world.clients.create("acme")
    for act in (world.clients.create, partial(world.clients.rotate, overlap=HOUR)):
        with pytest.raises(Full, match="revoke some"):
            act("acme" if act == world.clients.create else short.client.id)
    world.time.at += HOUR
    used = world.time.at - HOUR + 1
    world.clients.create("acme")
    assert len(stored_keys(world)) == MAX_KEYS
    assert listed(world, short).used == used, "it is still known when the key was used that made room"
    assert listed(world, short).keys == ()


def token_of(world: World, issued: IssuedKey) -> str:
    """Have a client ask for a browser token, and return it."""
    asked = {"action": "token", "actions": ["status"], "ttl": 3600}
    return str(v3(world, asked, headers={"authorization": f"Bearer {issued.key}"}).json["token"])


def issuers(world: World) -> set[str]:
    item = world.parts.table.get("T#acme", "TENANT")
    assert item is not None
    return set(item.get(ISSUERS, ()))


def test_a_client_whose_last_key_made_room_is_remembered_no_more_as_one_that_has_tokens(world: World) -> None:
    """The item is written on every request, so that whatever only grows in it would slow all of them."""
    end = world.time.at + HOUR
    passing = [world.clients.create("acme", expires=end) for _ in range(MAX_KEYS - 2)]
    staying = world.clients.create("acme")
    for issued in (*passing, staying):
        token_of(world, issued)
    world.clients.rotate(passing[0].client.id, overlap=0)
    assert issuers(world) == {issued.client.id for issued in (*passing, staying)}
    world.time.at = end
    another = world.clients.create("acme")
    assert issuers(world) == {staying.client.id}
    assert stored_keys(world).keys() > {staying.client.keys[-1], another.client.keys[-1]}


def test_tokens_go_on_while_one_of_their_clients_keys_stays(world: World) -> None:
    old = world.clients.create("acme")
    token = token_of(world, old)
    world.clients.rotate(old.client.id, overlap=2 * SECOND)
    world.time.at += 3 * SECOND
    for _ in range(MAX_KEYS - 2):
        world.clients.create("acme")
    assert len(stored_keys(world)) == MAX_KEYS
    assert old.client.keys[-1] not in stored_keys(world), "it made room"
    assert issuers(world) == {old.client.id}
    asked = v3(world, {"action": "status", "order": 1_000_000}, headers={"authorization": f"Bearer {token}"})
    assert asked.json["code"] == "order_not_found", "the token is good"


def test_a_rotation_without_overlap_needs_no_room(world: World) -> None:
    issued = [world.clients.create("acme") for _ in range(MAX_KEYS - 1)]
    new = world.clients.rotate(issued[0].client.id, overlap=0)
    assert works(world, new.key)
    assert len(stored_keys(world)) == MAX_KEYS


# -- last used ---------------------------------------------------------------------------------------------------------


def test_it_is_known_when_a_client_was_used_last(world: World) -> None:
    issued = world.clients.create("acme")
    assert listed(world, issued).used is None
    for _ in range(3):  # of a full bucket, and of one that is filling
        world.time.at += SECOND // 100
        assert works(world, issued.key)
        assert listed(world, issued).used == world.time.at
    last = world.time.at
    good = parse_client_key(issued.key)
    assert good is not None
    assert isinstance(world.parts.directory.admit(replace(good, digest=bytes(32)), now=last + SECOND), Stranger)
    assert listed(world, issued).used == last, "a wrong key is no use"
    world.clients.rotate(issued.client.id, overlap=0)
    assert listed(world, issued).used == last
    world.clients.revoke(issued.client.id)
    assert listed(world, issued).used == last


def test_a_use_of_any_of_its_keys_is_a_use_of_the_client(world: World) -> None:
    old = world.clients.create("acme")
    new = world.clients.rotate(old.client.id, overlap=HOUR)
    assert works(world, new.key, at=world.time.at + SECOND)
    assert works(world, old.key, at=world.time.at + 2 * SECOND)
    assert listed(world, old).used == world.time.at + 2 * SECOND


# -- at once -----------------------------------------------------------------------------------------------------------

ROUNDS = 5


@pytest.mark.parametrize("overlap", [0, HOUR])
def test_of_rotations_at_once_one_key_stays(world: World, overlap: int) -> None:
    for _ in range(ROUNDS):
        first = world.clients.create("acme")
        keys = [
            one.key for one in at_once(world, *[rotated(first.client.id, overlap)] * 4) if isinstance(one, IssuedKey)
        ]
        assert len(keys) == 4, "each was told of a key"
        assert len(set(keys)) == 4
        after = world.time.at + overlap
        assert [works(world, key, at=after) for key in (first.key, *keys)].count(True) == 1
        assert not works(world, first.key, at=after)
        assert set(listed(world, first).keys) == {
            key for key, kept in stored_keys(world).items() if kept["client"] == first.client.id
        }
        world.clients.revoke(first.client.id)


def test_a_revocation_beats_every_rotation(world: World) -> None:
    for _ in range(ROUNDS):
        first = world.clients.create("acme")
        rotation, revocation = rotated(first.client.id, HOUR), revoked(first.client.id)
        outcomes = at_once(world, rotation, revocation, rotation, revocation, rotation)
        keys = [one.key for one in outcomes if isinstance(one, IssuedKey)]
        assert not any(works(world, key) for key in (first.key, *keys))
        assert listed(world, first).revoked
        assert not [kept for kept in stored_keys(world).values() if kept["client"] == first.client.id]


def test_a_suspension_survives_whatever_is_done_beside_it(world: World) -> None:
    for number in range(ROUNDS):
        issued = world.clients.create("acme")
        outcomes = at_once(
            world,
            lambda table: Registry(table).set_active("acme", active=False),
            lambda table: Registry(table).change_tenant("acme", partial(replace, dedupe=number)),  # noqa: B023 - it runs at once
            rotated(issued.client.id, HOUR),
            lambda table: Clients(table).create("acme"),
        )
        keys = [issued.key, world.key, *(one.key for one in outcomes if isinstance(one, IssuedKey))]
        assert len(keys) == 4
        assert {type(admission(world, key)) for key in keys} == {Suspended}
        assert world.registry.tenant("acme").dedupe == number
        assert world.registry.set_active("acme", active=True).active
        assert all(works(world, key) for key in keys)


def test_requests_beside_the_operators_acts_undo_none_of_them(world: World) -> None:
    issued = [world.clients.create("acme") for _ in range(3)]

    def ask(_: Table) -> object:
        directory = world.twin().directory
        parsed = [parse_client_key(one.key) for one in issued]
        for number in range(12):
            key = parsed[number % 3]
            assert key is not None
            directory.admit(key, now=world.time.at + number * SECOND)
        return None

    [_, _, new, _, _] = at_once(world, ask, ask, rotated(issued[0].client.id, 0), revoked(issued[1].client.id), ask)
    assert isinstance(new, IssuedKey)
    assert [works(world, key, at=world.time.at + HOUR) for key in (issued[0].key, issued[1].key)] == [False, False]
    assert [works(world, key, at=world.time.at + HOUR) for key in (issued[2].key, new.key)] == [True, True]


def test_of_creations_at_once_no_more_get_a_key_than_there_is_room(world: World) -> None:
    for _ in range(MAX_KEYS - 3):
        world.clients.create("acme")
    outcomes = at_once(world, *[lambda table: Clients(table).create("acme")] * 5)
    assert [isinstance(one, IssuedKey) for one in outcomes].count(True) == 2
    assert [isinstance(one, Full) for one in outcomes].count(True) == 3
    assert len(stored_keys(world)) == MAX_KEYS
