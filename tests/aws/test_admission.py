"""Who is let in: the digest decides, in the store, whatever else the key or its tenant is like."""

import hashlib
from dataclasses import replace

import pytest

from chalicelib.clock import MINUTE, SECOND
from chalicelib.keys import ClientKey, parse_client_key
from chalicelib.ports import Admitted, Stranger, Suspended, Throttled
from tests.world import World


@pytest.fixture
def good(world: World) -> ClientKey:
    key = parse_client_key(world.key)
    assert key is not None
    return key


@pytest.fixture
def forged(good: ClientKey) -> ClientKey:
    """Return a well-formed key with the id of a real one and another secret."""
    return replace(good, digest=bytes(32))


def test_another_secret_is_a_stranger_whatever_the_bucket_is_like(
    world: World, good: ClientKey, forged: ClientKey
) -> None:
    directory, now = world.parts.directory, world.time.at
    assert isinstance(directory.admit(forged, now=now), Stranger), "of a full bucket"
    assert isinstance(directory.admit(good, now=now), Admitted)
    assert isinstance(directory.admit(forged, now=now), Stranger), "of a filling one"
    for _ in range(19):
        directory.admit(good, now=now)
    assert isinstance(directory.admit(good, now=now), Throttled)
    assert isinstance(directory.admit(forged, now=now), Stranger), "of an empty one: it learns nothing of the limit"
    assert isinstance(world.twin().directory.admit(forged, now=now + MINUTE), Stranger)


def test_another_secret_learns_nothing_of_a_suspension(world: World, good: ClientKey, forged: ClientKey) -> None:
    world.registry.set_active("acme", active=False)
    assert isinstance(world.parts.directory.admit(good, now=world.time.at), Suspended)
    assert isinstance(world.parts.directory.admit(forged, now=world.time.at), Stranger)


def test_an_expired_key_is_a_stranger_to_a_suspended_tenant_too(world: World) -> None:
    ends = world.time.at + SECOND
    key = parse_client_key(world.clients.create("acme", expires=ends).key)
    assert key is not None
    assert isinstance(world.parts.directory.admit(key, now=ends - 1), Admitted)
    assert isinstance(world.parts.directory.admit(key, now=ends), Stranger)
    assert isinstance(world.twin().directory.admit(key, now=ends + MINUTE), Stranger)
    world.registry.set_active("acme", active=False)
    assert isinstance(world.parts.directory.admit(key, now=ends), Stranger)


def test_a_forged_key_takes_nothing_from_the_limit(world: World, good: ClientKey, forged: ClientKey) -> None:
    for _ in range(5):
        world.parts.directory.admit(forged, now=world.time.at)
    admission = world.parts.directory.admit(good, now=world.time.at)
    assert isinstance(admission, Admitted)
    assert admission.quota.remaining == 19


def test_only_the_digest_of_a_client_key_is_stored(world: World) -> None:
    issued = world.clients.create("acme", name="till")
    stored = str([*world.parts.table.query("T#acme"), *world.parts.table.query("TENANTS")])
    digest = hashlib.sha256(issued.key.encode()).digest()
    assert str(digest) in stored
    assert issued.key not in stored
    assert issued.key.rpartition("_")[2] not in stored, "nor its secret part"
