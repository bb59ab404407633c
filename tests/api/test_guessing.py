"""Keys that are not good: nobody can tell why, junk costs nothing, and an address may try out only so many."""

import string
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import yaml

from chalicelib.aws.directory import CONFIGURATION_AGE
from chalicelib.aws.guesses import BURST, INTERVAL
from chalicelib.clock import HOUR, MINUTE, SECOND
from chalicelib.keys import ClientKey, new_client_key, parse_client_key
from chalicelib.model import Tenant
from tests.api.http import Answered, container, v2, v3
from tests.conftest import ROOT
from tests.world import World

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def with_checksum(head: str) -> str:
    number, digits = zlib.crc32(head.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return head + digits


def forged(key: str) -> str:
    """Return a well-formed key with the tenant and the id of a real one, and another secret."""
    head = key[:-7] + ("A" if key[-7] != "A" else "B")
    return with_checksum(head)


def ask(world: World, key: str, address: str = "203.0.113.7", face: Callable[..., Answered] = v3) -> Answered:
    if face is v2:
        return v2(world, {"key": key, "action": "balance"}, address=address)
    return v3(world, {"action": "balance"}, headers={"authorization": f"Bearer {key}"}, address=address)


def _bad_keys(world: World) -> dict[str, str]:
    """Return a well-formed key for each reason not to take one."""
    revoked = world.clients.create("acme")
    world.clients.revoke(revoked.client.id)
    expired = world.clients.create("acme", expires=world.time.at)
    rotated = world.clients.create("acme")
    world.clients.rotate(rotated.client.id, overlap=0)
    outlived = world.clients.create("acme")
    world.clients.rotate(outlived.client.id, overlap=HOUR)
    return {
        "of nobody's tenant": new_client_key("nobody"),
        "of nobody's client": new_client_key("acme"),
        "wrong": forged(world.key),
        "revoked": revoked.key,
        "expired": expired.key,
        "rotated": rotated.key,
        "after its overlap": outlived.key,
        "of a suspended tenant, wrong": forged(_suspended(world)),
    }


def _parsed(text: str) -> ClientKey:
    key = parse_client_key(text)
    assert key is not None
    return key


def _suspended(world: World) -> str:
    key = world.add_tenant(replace(world.registry.tenant("acme"), id="idle"), credit=0)
    world.registry.set_active("idle", active=False)
    return key


@pytest.mark.parametrize("face", [v2, v3])
@pytest.mark.parametrize("wrong_before", [0, 3, BURST])
def test_why_a_key_is_not_good_makes_no_difference(
    world: World, face: Callable[..., Answered], wrong_before: int
) -> None:
    bad = _bad_keys(world)
    world.time.at += HOUR
    seen = {}
    for number, (reason, key) in enumerate(bad.items()):
        asker, recorded = container(world)
        address = f"203.0.113.{number}"
        for _ in range(wrong_before):
            world.twin().gateway.guesses.guessed(address, _parsed(new_client_key("acme")), now=world.time.at)
        answer = ask(asker, key, address, face)
        seen[reason] = (*_told(answer), recorded.calls)
    assert len({str(told) for told in seen.values()}) == 1, seen
    [told, *_] = seen.values()
    assert told[0] == (429 if wrong_before == BURST else 401 if face is v3 else 200)
    assert told[3] != []


def _junk(world: World) -> list[str]:
    broken = world.key[:-1] + ("A" if world.key[-1] != "A" else "B")
    return ["", "x", broken, world.key[:-1], world.key + "0", world.key.replace("live", "dead"), "é" * 80]


@pytest.mark.parametrize("face", [v2, v3])
def test_junk_costs_no_call_of_the_store(world: World, face: Callable[..., Answered]) -> None:
    for junk in _junk(world):
        asker, recorded = container(world)
        answer = ask(asker, junk, face=face)
        assert answer.json["error"] == "Invalid API key"
        assert answer.status == (401 if face is v3 else 200)
        assert recorded.calls == []


@pytest.mark.parametrize("page", ["https://shop.example", "https://nobodys.example"])
def test_junk_from_a_page_costs_one_look_at_who_lists_the_page(world: World, page: str) -> None:
    world.add_tenant(Tenant(id="shop", origins=frozenset({"https://shop.example"})))
    asker, recorded = container(world)

    def answers() -> list[Answered]:
        bearers = [{"origin": page, "authorization": f"Bearer {key}"} for key in _junk(world)]
        return [
            *(v3(asker, {"action": "balance"}, headers=headers) for headers in bearers),
            *(v3(asker, body=body, headers={"origin": page}) for body in (b"{", b"[]")),
        ]

    granted = {"Access-Control-Allow-Origin" in answer.headers for answer in answers()}
    assert granted == {page == "https://shop.example"}
    assert [name for name, _ in recorded.calls] == (["query", "get_item"] if True in granted else ["query"])
    answers()
    assert len(recorded.calls) <= 2
    world.time.at += CONFIGURATION_AGE
    answers()
    assert 2 <= len(recorded.calls) <= 4


def test_who_lists_a_page_is_known_half_a_minute_later_at_the_latest(world: World) -> None:
    origin = "https://shop.example"
    world.add_tenant(Tenant(id="shop", origins=frozenset({origin})))
    for active in (True, False, True):
        world.registry.set_active("shop", active=active)
        world.time.at += CONFIGURATION_AGE
        assert world.parts.directory.origin_listed(origin) is active


def test_a_container_remembers_only_so_many_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.aws.directory._REMEMBERED", 2)
    asker, recorded = container(world)
    for number in (0, 1, 2, 2, 0):
        asker.parts.directory.origin_listed(f"https://{number}.example")
    assert len(recorded.calls) == 4


def test_an_address_may_be_wrong_with_so_many_keys_and_then_now_and_then(world: World) -> None:
    statuses = [ask(world, new_client_key("acme")).status for _ in range(BURST + 5)]
    assert statuses == [401] * BURST + [429] * 5
    barred = ask(world, new_client_key("acme"))
    assert barred.json["code"] == "rate_limited"
    assert barred.headers["Retry-After"] == str(INTERVAL // SECOND)
    assert "RateLimit" not in barred.headers, "nobody's limit"
    assert ask(world, new_client_key("acme"), face=v2).json == {"error": "Too many requests"}
    for _ in range(3):
        world.time.at += INTERVAL
        assert [ask(world, new_client_key("acme")).status for _ in range(3)] == [401, 429, 429]
    assert ask(world, new_client_key("acme"), "203.0.113.8").status == 401, "another address"


def test_the_right_key_is_not_to_be_guessed_from_a_barred_address(world: World) -> None:
    for _ in range(BURST + 1):
        ask(world, new_client_key("acme"))
    right = world.clients.create("acme").key
    assert ask(world, right).status == 429, "the answer tells nothing of it"
    assert ask(world, right, "203.0.113.8").status == 200


def test_a_key_that_is_known_to_be_good_is_locked_out_by_nobody(world: World) -> None:
    assert ask(world, world.key).status == 200
    for _ in range(2 * BURST):
        ask(world, new_client_key("acme"))
    assert ask(world, world.key).status == 200
    world.clients.revoke(world.clients.of("acme")[0].id)
    assert ask(world, world.key).status != 200, "but it is asked for"


def test_the_same_wrong_key_again_is_no_new_guess(world: World) -> None:
    old = world.clients.create("acme")
    world.clients.revoke(old.client.id)
    assert {ask(world, old.key).status for _ in range(5 * BURST)} == {401}
    assert [ask(world, new_client_key("acme")).status for _ in range(BURST)] == [401] * (BURST - 1) + [429]


@pytest.mark.parametrize("face", [v2, v3])
def test_a_wrong_key_that_is_repeated_is_answered_from_memory_whatever_is_wrong_with_it(
    world: World, face: Callable[..., Answered]
) -> None:
    bad = _bad_keys(world)
    world.time.at += HOUR
    for number, (reason, key) in enumerate(bad.items()):
        asker, recorded = container(world)
        address = f"203.0.113.{number}"
        first = ask(asker, key, address, face)
        looked = len(recorded.calls)
        for _ in range(50):
            again = ask(asker, key, address, face)
            assert _told(again) == _told(first), reason
        assert len(recorded.calls) == looked, reason
        assert ask(asker, world.key, address, face).json["currency"] == "USD"


def _told(answer: Answered) -> tuple[Any, ...]:
    headers = {name: value for name, value in answer.headers.items() if name != "X-Request-Id"}
    return answer.status, headers, {name: value for name, value in answer.json.items() if name != "request_id"}


def test_what_is_known_to_be_wrong_is_wrong_also_from_an_address_that_is_barred(world: World) -> None:
    asker, _ = container(world)
    wrong = new_client_key("acme")
    assert ask(asker, wrong).status == 401
    assert [ask(asker, new_client_key("acme")).status for _ in range(BURST)] == [401] * (BURST - 1) + [429]
    assert ask(asker, wrong).status == 401


def test_a_container_looks_again_now_and_then(world: World) -> None:
    """Its clock may have been wrong when it took a key for expired."""
    asker, recorded = container(world)
    issued = world.clients.create("acme", expires=world.time.at + HOUR)
    world.time.at += 2 * HOUR
    assert ask(asker, issued.key).status == 401
    world.time.at -= 2 * HOUR
    assert ask(asker, issued.key).status == 200
    wrong = new_client_key("acme")
    for _ in range(3):
        looked = len(recorded.calls)
        assert {ask(asker, wrong, "203.0.113.8").status for _ in range(5)} == {401}
        assert looked < len(recorded.calls) <= looked + 3
        world.time.at += MINUTE


def test_a_container_remembers_only_so_many_wrong_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.aws.guesses._REMEMBERED", 2)
    asker, recorded = container(world)
    keys = [new_client_key("acme") for _ in range(3)]
    for key in keys:
        ask(asker, key)
    looked = len(recorded.calls)
    ask(asker, keys[2])
    assert len(recorded.calls) == looked
    ask(asker, keys[0])
    assert len(recorded.calls) > looked


def test_a_good_key_of_a_suspended_tenant_is_not_taken_for_wrong(world: World) -> None:
    world.registry.set_active("acme", active=False)
    assert ask(world, world.key).status == 403
    world.registry.set_active("acme", active=True)
    assert ask(world, world.key).status == 200


def test_all_containers_count_together(world: World) -> None:
    askers = [container(world)[0] for _ in range(4)]
    statuses = [ask(askers[number % 4], new_client_key("acme")).status for number in range(BURST + 8)]
    assert statuses == [401] * BURST + [429] * 8

    address = "203.0.113.8"
    with ThreadPoolExecutor(8) as threads:
        at_once = list(
            threads.map(lambda number: ask(askers[number % 4], new_client_key("acme"), address).status, range(40))
        )
    assert at_once.count(401) <= BURST
    assert set(at_once) == {401, 429}


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 429),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 401),
        ("::ffff:203.0.113.7", "203.0.113.7", 429),
        ("203.0.113.7", "203.0.113.8", 401),
    ],
)
def test_an_address_is_what_one_caller_has_at_their_disposal(
    world: World, first: str, second: str, status: int
) -> None:
    for _ in range(BURST + 1):
        ask(world, new_client_key("acme"), first)
    assert ask(world, new_client_key("acme"), second).status == status


def test_what_is_kept_of_an_address_is_small_holds_no_digest_and_goes(world: World) -> None:
    for _ in range(3 * BURST):
        world.time.at += INTERVAL
        ask(world, new_client_key("acme"))
    item = world.parts.table.get("ADDRESS#203.0.113.7", "GUESSES")
    assert item is not None
    assert len(item["tried"]) == BURST
    assert {len(mark) for mark in item["tried"]} == {8}
    template = yaml.safe_load((ROOT / "infra/data.yaml").read_text())
    specification = template["Resources"]["Table"]["Properties"]["TimeToLiveSpecification"]
    assert specification == {"AttributeName": "ttl", "Enabled": True}
    full_again = item["tat"] // SECOND
    assert full_again < item["ttl"] <= full_again + 3600


def test_a_good_key_costs_no_further_call(world: World) -> None:
    asker, recorded = container(world)
    ask(asker, world.key)
    assert [call for call in recorded.calls if call[1] != "WALLET"] == [("update_item", "TENANT")]
