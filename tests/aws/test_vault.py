"""The provider keys: read in time or not at all, and an old one is better than none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib.aws.vault import SecretsVault
from chalicelib.clock import HOUR, MINUTE, SECOND
from chalicelib.errors import Unavailable
from chalicelib.keys import ProviderKey
from chalicelib.model import Account
from chalicelib.panels.dialect import Reply
from tests.world import PROVIDER_KEY, World


@dataclass
class Down:
    """Secrets Manager, out of reach."""

    asked: int = 0

    def get_secret_value(self, **_request: Any) -> Any:
        self.asked += 1
        raise EndpointConnectionError(endpoint_url="http://secrets")


def cut_off(world: World) -> tuple[SecretsVault, Down]:
    """Return the vault of a container that was warm when Secrets Manager went down, an hour ago."""
    warm, secrets = world.twin(), Down()
    warm.vault.key(Account("smosale"))
    down = world.twin(secrets=secrets)
    down.vault._cache.update(warm.vault._cache)  # noqa: SLF001 - the container was warm when it went down
    world.time.at += HOUR
    return down.vault, secrets


def test_no_key_is_read_that_would_come_too_late(world: World) -> None:
    vault = world.parts.vault
    with pytest.raises(Unavailable):
        vault.key(Account("smosale"), until=world.time.at + 5 * SECOND)
    assert vault.key(Account("smosale"), until=world.time.at + 6 * SECOND).value == PROVIDER_KEY
    assert vault.key(Account("smosale"), until=world.time.at).value == PROVIDER_KEY
    with pytest.raises(Unavailable):
        vault.key(Account("smosale"), until=world.time.at + 5 * SECOND, fresh=True)


def test_an_old_key_is_used_while_there_is_no_newer_one_to_be_had(world: World) -> None:
    vault, _ = cut_off(world)
    assert vault.key(Account("smosale")).value == PROVIDER_KEY
    with pytest.raises(Unavailable):
        vault.key(Account("smosale"), fresh=True)


def test_who_has_an_old_key_does_not_wait_for_a_newer_one_at_every_call(world: World) -> None:
    """A read of a Secrets Manager that is down may take seconds."""
    vault, secrets = cut_off(world)
    for _ in range(5):
        vault.key(Account("smosale"))
        world.time.at += SECOND
    assert secrets.asked == 1
    world.time.at += 10 * SECOND
    vault.key(Account("smosale"))
    assert secrets.asked == 2


def test_an_old_key_that_there_was_no_time_to_replace_is_replaced_by_the_next_call(world: World) -> None:
    vault, secrets = cut_off(world)
    vault.key(Account("smosale"), until=world.time.at + SECOND)
    assert secrets.asked == 0
    vault.key(Account("smosale"))
    assert secrets.asked == 1


@dataclass
class Interrupted:
    """Secrets Manager; something happens while its next answer is on its way, which may then be lost."""

    secrets: Any
    meanwhile: Callable[[], object] | None = None
    is_lost: bool = True

    def get_secret_value(self, **request: Any) -> Any:
        answer = self.secrets.get_secret_value(**request)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
            if self.is_lost:
                raise EndpointConnectionError(endpoint_url="http://secrets")
        return answer


def test_a_read_that_fails_once_lets_no_key_be_used_for_more_than_a_minute(world: World) -> None:
    """Both reads take as long as they may, and the key is replaced right after the first one has seen it."""
    account, new, replaced = Account("smosale"), "pk-rotated-0001", world.time.at
    used = replaced

    def takes_long() -> None:
        world.time.at += 5_500_000

    def is_replaced() -> None:
        world.put_key(account, new, token="2" * 32)
        takes_long()

    secrets = Interrupted(world.secrets, is_replaced, is_lost=False)
    vault = world.twin(secrets=secrets).vault
    vault.key(account)
    secrets.meanwhile, secrets.is_lost = takes_long, True
    while vault.key(account).value != new:
        used = world.time.at
        world.time.at += SECOND // 10
    assert secrets.meanwhile is None
    assert used - replaced <= MINUTE


def test_a_read_that_fails_puts_no_old_key_in_the_place_of_what_another_thread_has_read(world: World) -> None:
    account, new = Account("smosale"), "pk-rotated-0001"
    secrets = Interrupted(world.secrets)
    vault = world.twin(secrets=secrets).vault
    vault.key(account)
    world.put_key(account, new, token="2" * 32)
    world.time.at += HOUR
    secrets.meanwhile = lambda: vault.key(account)
    assert [vault.key(account).value for _ in range(2)] == [new, new]


@dataclass
class Counted:
    """Secrets Manager, and how often a key was read."""

    secrets: Any
    read: int = 0

    def get_secret_value(self, **request: Any) -> Any:
        self.read += 1
        return self.secrets.get_secret_value(**request)


def test_a_key_that_is_in_doubt_is_read_anew_once_in_ten_seconds(world: World) -> None:
    secrets, account = Counted(world.secrets), Account("smosale")
    vault = world.twin(secrets=secrets).vault
    key = vault.key(account)
    vault.doubt(account, ProviderKey("pk-that-it-had-before", "9" * 32))
    assert (vault.key(account), secrets.read) == (key, 1)
    for seconds, read in ((0, 2), (9, 2), (10, 3)):
        vault.doubt(account, key)
        world.time.at += seconds * SECOND
        vault.doubt(account, key)
        assert (vault.key(account), secrets.read) == (key, read)


def test_a_key_that_is_rejected_late_is_not_read_anew(world: World) -> None:
    """The second try would begin after the time that there is to answer."""
    order = world.add().order

    def rejects(_panel: object, _fields: dict[str, str]) -> Any:
        world.time.at += 9 * SECOND
        return Reply(200, {}, b'{"error":"Invalid API key"}')

    world.panel.behaviours["status"] = rejects
    world.time.at += 16 * SECOND
    assert world.status(order).stale
    assert world.panel.asked("status") == 1
