"""Keys of tenants' own at the providers, as the operator gives and withdraws them."""

import pytest

from chalicelib.model import Account
from cli.console import Console
from sandbox.server import Sandbox
from tests.cli.conftest import Shell, give_own_key
from tests.cli.test_orders import buy


def test_a_withdrawn_key_buys_no_more_and_stays_for_its_orders(
    shell: Shell, sandbox: Sandbox, stage: Console, smosale: str, acme: str
) -> None:
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    key = shell.ok("clients", "create", acme)["key"]
    own = give_own_key(stage, sandbox, smosale, acme)
    assert shell.ok("tenants", "show", acme)["own_keys"] == [smosale]
    buy(stage, key)
    for _ in range(2):
        told = shell.ok("keys", "withdraw", smosale, "--tenant", acme)
        assert told == {"provider": smosale, "tenant": acme, "own_key": False}
    assert shell.ok("tenants", "show", acme)["own_keys"] == []
    buy(stage, key, link="https://example.com/q")
    assert [one.customer for one in sandbox.panels[smosale].orders.values()] == [acme, ""]
    assert stage.parts.vault.key(Account(smosale, acme), fresh=True).value == own


@pytest.mark.parametrize(("provider", "tenant"), [("nowhere", "acme"), ("smosale", "nobody")])
@pytest.mark.usefixtures("smosale", "acme")
def test_a_key_is_withdrawn_from_somebody_somewhere(shell: Shell, provider: str, tenant: str) -> None:
    assert shell.failure("keys", "withdraw", provider, "--tenant", tenant).startswith("There is no ")
