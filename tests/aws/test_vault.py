"""The provider keys: read in time or not at all, and an old one is better than none."""

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib.clock import HOUR, SECOND
from chalicelib.errors import Unavailable
from chalicelib.model import Account
from chalicelib.panels.dialect import Reply
from tests.world import PROVIDER_KEY, World


class Down:
    """Secrets Manager, out of reach."""

    def get_secret_value(self, **_request: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="http://secrets")


def test_no_key_is_read_that_would_come_too_late(world: World) -> None:
    vault = world.parts.vault
    with pytest.raises(Unavailable):
        vault.key(Account("smosale"), until=world.time.at + 5 * SECOND)
    assert vault.key(Account("smosale"), until=world.time.at + 6 * SECOND).value == PROVIDER_KEY
    assert vault.key(Account("smosale"), until=world.time.at).value == PROVIDER_KEY
    with pytest.raises(Unavailable):
        vault.key(Account("smosale"), until=world.time.at + 5 * SECOND, fresh=True)


def test_an_old_key_is_used_while_there_is_no_newer_one_to_be_had(world: World) -> None:
    parts = world.twin()
    assert parts.vault.key(Account("smosale")).value == PROVIDER_KEY
    down = world.twin(secrets=Down())
    down.vault._cache.update(parts.vault._cache)  # noqa: SLF001 - the container was warm when it went down
    world.time.at += HOUR
    assert down.vault.key(Account("smosale")).value == PROVIDER_KEY
    with pytest.raises(Unavailable):
        down.vault.key(Account("smosale"), fresh=True)


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
