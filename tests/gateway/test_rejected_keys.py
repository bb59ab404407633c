"""What a container does when a panel rejects a key: it looks at the current one, the pending one, the previous one."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.aws.rotations import Rotation, Rotations, Step
from chalicelib.aws.vault import CURRENT, PENDING, PREVIOUS, REJECTED_FOR, SecretsVault
from chalicelib.clock import MINUTE, SECOND
from chalicelib.errors import AnswerLost, Code, Refusal, Unavailable
from chalicelib.keys import ProviderKey
from chalicelib.model import Account, OrderState, Provider
from chalicelib.panels.dialect import Reply
from tests.world import PROVIDER_KEY, PretendPanel, World, buys

SMOSALE = Account("smosale")
FIRST, SECOND_KEY, THIRD, FOURTH = ("0" * 32, "1" * 32, "2" * 32, "3" * 32)
CREDIT = 100 * SECOND


def value(version: str) -> str:
    return PROVIDER_KEY if version == FIRST else f"pk-number-{version[:8]}"


def store(world: World, version: str, *steps: Step, other_account: bool = False) -> None:
    """Store a pending version, and record how far it has come."""
    before = world.twin().vault.key(SMOSALE).version
    world.parts.vault.store_pending(SMOSALE, value(version), token=version)
    rotations = Rotations(world.parts.table)
    rotation = rotations.begin(Rotation(account=SMOSALE, version=version, before=before, other_account=other_account))
    for step in steps:
        rotation = rotations.advance(rotation, step)


def promote(world: World, version: str) -> None:
    world.parts.vault.promote(SMOSALE, version)


PROVED = (Step.PROVED,)
DONE = (Step.PROVED, Step.PROMOTED, Step.DONE)
ROLLED_BACK = (Step.PROVED, Step.PROMOTED, Step.ROLLING_BACK, Step.ROLLED_BACK)


@pytest.fixture
def versions(world: World) -> World:
    """Return a stage where FIRST is previous, SECOND_KEY current, THIRD pending and proved."""
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    store(world, THIRD, *PROVED)
    return world


def instead(vault: SecretsVault, rejected: ProviderKey, *, until: int) -> Iterator[ProviderKey]:
    """Return what is offered in the place of a key that the panel surely rejects."""
    return vault.instead(SMOSALE, rejected, until=until, is_sure=lambda: True)


def offered(world: World, rejected: str, *, most: int = 9) -> list[str]:
    """Return the versions that a container is offered which was rejected with one."""
    parts, found = world.twin(), []
    keys = instead(parts.vault, ProviderKey(value(rejected), rejected), until=world.deadline().ask)
    for key in keys:
        assert key.value == value(key.version)
        found.append(key.version)
        if len(found) == most:
            break
    return found


def test_the_order_is_current_pending_previous(versions: World) -> None:
    assert offered(versions, SECOND_KEY) == [THIRD, FIRST]
    assert offered(versions, FIRST) == [SECOND_KEY, THIRD]
    assert offered(versions, FOURTH) == [SECOND_KEY, THIRD, FIRST]


def test_a_pending_key_stands_in_only_if_it_has_proved_itself(world: World) -> None:
    store(world, SECOND_KEY)
    assert offered(world, FIRST) == []
    rotations = Rotations(world.parts.table)
    found = rotations.get(SMOSALE, SECOND_KEY)
    assert found is not None
    rotations.advance(found, Step.PROVED)
    assert offered(world, FIRST) == [SECOND_KEY]


def test_a_pending_key_of_another_account_does_not_stand_in(world: World) -> None:
    store(world, SECOND_KEY, *PROVED, other_account=True)
    assert offered(world, FIRST) == []


@pytest.mark.parametrize("steps", [ROLLED_BACK, (Step.FAILED,), ROLLED_BACK[:3]])
def test_a_retired_key_is_not_fallen_back_on(world: World, steps: tuple[Step, ...]) -> None:
    store(world, SECOND_KEY, *steps)
    promote(world, SECOND_KEY)
    promote(world, FIRST)
    assert world.parts.vault.labels(SMOSALE)[SECOND_KEY] == {PREVIOUS}
    assert offered(world, FIRST) == []


def test_the_key_of_another_account_is_not_fallen_back_on(world: World) -> None:
    store(world, SECOND_KEY, *DONE, other_account=True)
    promote(world, SECOND_KEY)
    assert offered(world, SECOND_KEY) == []


def test_a_key_that_the_current_one_did_not_replace_is_not_fallen_back_on(world: World) -> None:
    """Nobody has shown that they open one account: its provider may have been removed, and added with another key."""
    vault, rotations = world.parts.vault, Rotations(world.parts.table)
    vault.store_pending(SMOSALE, value(SECOND_KEY), token=SECOND_KEY)
    promote(world, SECOND_KEY)
    rotations.begin(Rotation(account=SMOSALE, version=SECOND_KEY, step=Step.DONE))
    assert vault.labels(SMOSALE)[FIRST] == {PREVIOUS}
    assert offered(world, SECOND_KEY) == []


def test_what_works_is_the_containers_key_from_then_on(versions: World) -> None:
    vault = versions.parts.vault
    assert vault.key(SMOSALE, fresh=True).version == SECOND_KEY
    key = next(instead(vault, vault.key(SMOSALE), until=versions.deadline().ask))
    assert vault.key(SMOSALE).version == SECOND_KEY, "nobody knows yet that it works"
    vault.keep(SMOSALE, key)
    assert vault.key(SMOSALE).version == key.version == THIRD
    versions.time.at += MINUTE
    assert vault.key(SMOSALE).version == SECOND_KEY


def test_when_nothing_works_the_current_key_is_kept_and_others_are_left_alone_for_a_while(versions: World) -> None:
    vault, until = versions.parts.vault, versions.deadline().ask
    rejected = vault.key(SMOSALE, fresh=True)
    assert [key.version for key in instead(vault, rejected, until=until)] == [THIRD, FIRST]
    assert vault.key(SMOSALE).version == SECOND_KEY
    assert list(instead(vault, rejected, until=until)) == []
    promote(versions, THIRD)
    assert [key.version for key in instead(vault, rejected, until=until)] == [THIRD]
    versions.time.at += REJECTED_FOR
    again = instead(vault, ProviderKey(value(THIRD), THIRD), until=versions.deadline().ask)
    assert [key.version for key in again] == [SECOND_KEY]


def test_a_rejection_is_noted_once_in_ten_seconds(world: World) -> None:
    rotations, vault = Rotations(world.parts.table), world.parts.vault
    assert rotations.rejected(SMOSALE, FIRST) is None
    rejected, first = vault.key(SMOSALE), world.time.at
    for wait in (0, REJECTED_FOR - 1):
        world.time.at = first + wait
        assert list(instead(vault, rejected, until=world.deadline().ask)) == []
        assert rotations.rejected(SMOSALE, FIRST) == first
    world.time.at = first + REJECTED_FOR
    assert list(instead(vault, rejected, until=world.deadline().ask)) == []
    assert rotations.rejected(SMOSALE, FIRST) == first + REJECTED_FOR


# -- what an order sees of it ------------------------------------------------------------------------------------------


def order_of(world: World, number: int) -> Any:
    order = world.parts.orders.get("acme", number)
    assert order is not None
    return order


@pytest.mark.parametrize(
    ("works", "tried"),
    [
        (SECOND_KEY, [FIRST, SECOND_KEY]),
        (THIRD, [FIRST, SECOND_KEY, THIRD]),
    ],
)
def test_a_warm_container_finds_the_key_that_works_and_buys_once(world: World, works: str, tried: list[str]) -> None:
    world.add()
    asked = len(world.panel.requests)
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    store(world, THIRD, *PROVED)
    world.panel.keys = {value(works)}
    receipt = world.add()
    assert not receipt.pending
    assert [fields["key"] for fields in world.panel.requests[asked:]] == [value(version) for version in tried]
    assert len(world.panel.purchases) == 2
    order = order_of(world, receipt.order)
    assert (order.attempt.key_version, order.attempts) == (works, len(tried))
    assert not world.add().pending
    assert len(world.panel.requests) == asked + len(tried) + 1


def test_a_warm_container_uses_a_rotated_key_within_60_s_though_the_old_one_works(world: World) -> None:
    world.add()
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    world.panel.keys = {PROVIDER_KEY, value(SECOND_KEY)}
    world.time.at += MINUTE
    world.add()
    assert [fields["key"] for fields in world.panel.requests] == [PROVIDER_KEY, value(SECOND_KEY)]


def test_a_cold_container_falls_back_on_the_previous_key(versions: World) -> None:
    versions.panel.keys = {PROVIDER_KEY}
    receipt = versions.add()
    assert [fields["key"] for fields in versions.panel.requests] == [value(v) for v in (SECOND_KEY, THIRD, FIRST)]
    assert order_of(versions, receipt.order).attempt.key_version == FIRST


def test_when_every_key_is_rejected_nothing_is_bought_and_the_caller_may_come_again(versions: World) -> None:
    versions.panel.keys = set()
    with pytest.raises(Refusal) as refused:
        versions.add(idempotency_key="k")
    assert (refused.value.code, refused.value.retry_after) == (Code.SERVICE_UNAVAILABLE, 60)
    assert versions.money() == (CREDIT, 0)
    assert len(versions.panel.requests) == 3
    with pytest.raises(Refusal):
        versions.add(idempotency_key="k")
    assert len(versions.panel.requests) == 4
    versions.panel.keys = {value(SECOND_KEY)}
    assert not versions.add(idempotency_key="k").replayed
    assert len(versions.panel.purchases) == 1


EITHER = b'{"error":"Incorrect request or API key"}'


def test_words_that_may_be_about_the_key_try_the_others_and_are_no_word_against_it(versions: World) -> None:
    """A tenant may have asked for something that no panel takes, and must not have a good key rolled back by that."""
    versions.panel.behaviours["add"] = lambda _panel, _fields: Reply(200, {}, EITHER)
    versions.panel.keys = {value(version) for version in (FIRST, SECOND_KEY, THIRD)}
    with pytest.raises(Refusal) as refused:
        versions.add()
    assert (refused.value.code, refused.value.retry_after) == (Code.SERVICE_UNAVAILABLE, 60)
    assert [fields["key"] for fields in versions.panel.requests] == [value(v) for v in (SECOND_KEY, THIRD, FIRST)]
    rotations = Rotations(versions.parts.table)
    assert {rotations.rejected(SMOSALE, version) for version in (FIRST, SECOND_KEY, THIRD)} == {None}
    assert versions.money() == (CREDIT, 0)


def test_words_that_may_be_about_the_key_find_the_one_that_works(versions: World) -> None:
    versions.panel.keys = {PROVIDER_KEY, value(SECOND_KEY)}
    versions.panel.behaviours["add"] = lambda panel, fields: (
        buys(panel, fields) if fields["key"] == PROVIDER_KEY else Reply(200, {}, EITHER)
    )
    assert not versions.add().pending
    assert len(versions.panel.purchases) == 1


BAD = Reply(200, {}, b'{"error":"Invalid API key"}')
ODD = Reply(200, {}, EITHER)


def answers(world: World, **said: Reply) -> None:
    """Have the panel say something to each key; by the versions' names in words, and no word buys."""
    words = {value(version): said.get(name) for name, version in (("first", FIRST), ("second", SECOND_KEY))}
    world.panel.keys = set(words)
    world.panel.behaviours["add"] = lambda panel, fields: words[fields["key"]] or buys(panel, fields)


@pytest.fixture
def rotated(world: World) -> World:
    """Return a stage where SECOND_KEY has replaced FIRST."""
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    return world


def noted(world: World) -> set[str]:
    rotations = Rotations(world.parts.table)
    return {version for version in (FIRST, SECOND_KEY) if rotations.rejected(SMOSALE, version) is not None}


def test_an_odd_request_leaves_a_container_the_key_that_works(rotated: World) -> None:
    """The panel rejects the key in use, so the one before stands in; one tenant's request must not end that."""
    answers(rotated, second=BAD)
    assert not rotated.add().pending
    for _ in range(12):
        answers(rotated, first=ODD, second=BAD)
        with pytest.raises(Refusal):
            rotated.add()
        answers(rotated, second=BAD)
        asked = len(rotated.panel.requests)
        assert not rotated.add().pending
        assert [fields["key"] for fields in rotated.panel.requests[asked:]] == [PROVIDER_KEY]
        rotated.time.at += SECOND


def test_an_odd_request_in_a_cold_container_leaves_it_the_key_that_may_work(rotated: World) -> None:
    answers(rotated, first=ODD, second=BAD)
    with pytest.raises(Refusal):
        rotated.add()
    assert rotated.parts.vault.version_at_hand(SMOSALE) == FIRST
    answers(rotated, second=BAD)
    assert not rotated.add().pending


def test_where_the_panel_has_one_sentence_for_both_a_key_that_stood_in_is_always_tried(rotated: World) -> None:
    """The key in use is dead, and orders that no key would help come in between."""
    answers(rotated, second=ODD)
    assert not rotated.add().pending
    for _ in range(60):
        answers(rotated, first=ODD, second=ODD)
        with pytest.raises(Refusal):
            rotated.add()
        answers(rotated, second=ODD)
        assert not rotated.add().pending
        rotated.time.at += SECOND


@pytest.mark.parametrize("failure", [AnswerLost("timeout"), Unavailable("the provider's pace is used up")])
def test_a_key_that_stands_in_and_gets_no_answer_is_not_kept(rotated: World, failure: Exception) -> None:
    rotated.panel.keys |= {value(SECOND_KEY)}
    assert not rotated.add().pending
    vault = rotated.parts.vault
    assert vault.version_at_hand(SMOSALE) == SECOND_KEY

    def add(_panel: PretendPanel, fields: dict[str, str]) -> Reply:
        if fields["key"] == PROVIDER_KEY:
            raise failure
        return ODD

    rotated.panel.behaviours["add"] = add
    with contextlib.suppress(Refusal):
        rotated.add()
    assert vault.version_at_hand(SMOSALE) == SECOND_KEY


def test_odd_requests_try_all_keys_once_in_ten_seconds_and_hold_no_rejection_back(rotated: World) -> None:
    """Panels lock out who guesses; but that the key is dead is no guess."""
    answers(rotated, first=ODD, second=ODD)
    for tried in ([value(SECOND_KEY), PROVIDER_KEY], [value(SECOND_KEY)]):
        asked = len(rotated.panel.requests)
        with pytest.raises(Refusal):
            rotated.add()
        assert [fields["key"] for fields in rotated.panel.requests[asked:]] == tried
    answers(rotated, second=BAD)
    assert not rotated.add().pending


def test_odd_requests_do_not_make_a_key_last_longer(world: World) -> None:
    """An old one that works must go within a minute, though each request gives the container cause to look at it."""
    world.add()
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    answers(world, first=ODD, second=ODD)
    for _ in range(6):
        world.time.at += REJECTED_FOR
        with pytest.raises(Refusal):
            world.add()
    answers(world)
    asked = len(world.panel.requests)
    world.add()
    assert [fields["key"] for fields in world.panel.requests[asked:]] == [value(SECOND_KEY)]


@pytest.mark.parametrize(("first", "second", "speaks_against"), [(BAD, ODD, {FIRST}), (ODD, BAD, {SECOND_KEY})])
def test_each_key_is_noted_for_what_the_panel_said_to_it(
    world: World, first: Reply, second: Reply, speaks_against: set[str]
) -> None:
    """A warm container has the first one, which the second one has replaced."""
    world.add()
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    answers(world, first=first, second=second)
    with pytest.raises(Refusal):
        world.add()
    assert noted(world) == speaks_against


@pytest.mark.parametrize(
    ("status", "body", "pending"),
    [
        (401, b'{"error":"Unauthorized"}', [True, False, False]),
        (403, b"<html>Forbidden</html>", [True, False, False]),
        (500, b"<html>Oops</html>", [True, True, True]),
    ],
)
def test_a_refusal_that_may_be_about_the_key_leaves_one_order_in_doubt(
    world: World, status: int, body: bytes, pending: list[bool]
) -> None:
    """The key was rotated, and its panel does not say that it rejects the old one in words that a table knows."""
    world.add()
    store(world, SECOND_KEY, *DONE)
    promote(world, SECOND_KEY)
    world.panel.keys |= {value(SECOND_KEY)}

    def add(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        return Reply(status, {}, body) if fields["key"] == PROVIDER_KEY else buys(panel, fields)

    world.panel.behaviours["add"] = add
    assert [world.add().pending for _ in pending] == pending


def test_a_throttled_call_whose_next_try_is_rejected_goes_out_with_another_key(world: World) -> None:
    mystic = Provider(
        slug="mystic", number=0, dialect="mysticsmm", url="https://mystic.test/", interval=SECOND, burst=1
    )
    world.add_provider(mystic)
    world.add(service=1002)
    world.put_key(mystic.account, value(SECOND_KEY), token=SECOND_KEY)
    world.panel.keys |= {value(SECOND_KEY)}
    said = iter([Reply(429, {}, b'{"error":"Too many requests"}'), Reply(200, {}, b'{"error":"Invalid API key"}')])

    def add(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        return next(said) if fields["key"] == PROVIDER_KEY else buys(panel, fields)

    world.panel.behaviours["add"] = add
    asked = len(world.panel.requests)
    order = order_of(world, world.add(service=1002).order)
    assert [fields["key"] for fields in world.panel.requests[asked:]] == [PROVIDER_KEY, PROVIDER_KEY, value(SECOND_KEY)]
    assert (order.state, order.attempts, order.attempt.key_version) == (OrderState.PLACED, 3, SECOND_KEY)
    assert len(world.panel.purchases) == 2


# -- a secret that was moved -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (Account("smosale"), Account("smmrich")),
        (Account("smosale"), Account("smosale", "acme")),
        (Account("smosale", "acme"), Account("smosale", "beta")),
        (Account("smosale", "acme"), Account("smosale")),
    ],
)
def test_a_secret_that_was_moved_opens_nothing(
    world: World, caplog: pytest.LogCaptureFixture, source: Account, place: Account
) -> None:
    parts = world.parts
    parts.vault.store_pending(source, "pk-canary-moved-1", token="a" * 32)
    parts.vault.store_pending(place, "pk-to-be-overwritten", token="b" * 32)
    name = parts.settings.provider_secret
    moved = world.secrets.get_secret_value(SecretId=name(source), VersionId="a" * 32)["SecretString"]
    world.secrets.put_secret_value(SecretId=name(place), SecretString=moved)
    with caplog.at_level(logging.ERROR, "panelgate"), pytest.raises(Unavailable) as refused:
        world.twin().vault.key(place)
    assert [record.getMessage() for record in caplog.records] == ["misplaced secret"]
    assert caplog.records[0].__dict__["facts"] == {"provider": place.provider, "tenant": place.tenant}
    assert "canary" not in f"{refused.value} {caplog.text}"


def test_a_secret_of_another_stage_opens_nothing(world: World) -> None:
    parts = world.parts
    name = parts.settings.provider_secret(SMOSALE)
    sealed = world.secrets.get_secret_value(SecretId=name, VersionStage=CURRENT)["SecretString"]
    for text in (sealed.replace(parts.settings.stage, "prod"), PROVIDER_KEY, "[]", '{"key": "pk-without-context"}'):
        world.secrets.put_secret_value(SecretId=name, SecretString=text)
        with pytest.raises(Unavailable):
            world.twin().vault.key(SMOSALE)
    with pytest.raises(Refusal) as refused:
        world.add()
    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert world.money() == (CREDIT, 0)


def test_no_key_is_offered_that_cannot_be_read_in_time(versions: World) -> None:
    rejected = versions.parts.vault.key(SMOSALE, fresh=True)
    assert list(instead(versions.parts.vault, rejected, until=versions.time.at + 5 * SECOND)) == []
    assert PENDING in versions.parts.vault.labels(SMOSALE)[THIRD]
