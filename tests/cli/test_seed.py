import time

from chalicelib.model import Account
from cli.console import Console
from cli.seed import PANELS, seed
from sandbox.server import Sandbox
from tests.cli.conftest import STAGE, Shell


def plant(console: Console, sandbox: Sandbox, previous_key: str | None = None) -> str:
    return seed(endpoint=console.aws.endpoint, stage=STAGE, sandbox_url=sandbox.url, previous_key=previous_key)


def asked(sandbox: Sandbox) -> int:
    return sum(len(panel.journal.entries) for panel in sandbox.panels.values())


def test_everything_is_there_afterwards(shell: Shell, stage: Console, sandbox: Sandbox) -> None:
    began = time.monotonic()
    key = plant(stage, sandbox)
    assert time.monotonic() - began < 10
    assert key.startswith("pg_live_demo_")
    providers = shell.ok("providers", "list")["providers"]
    assert [(one["number"], one["provider"], one["dialect"]) for one in providers] == [
        (1, "smmafrica", "smmafrica"),
        (2, "smosale", "perfectpanel"),
        (3, "smmrich", "perfectpanel"),
        (4, "mysticsmm", "mysticsmm"),
        (5, "smmleaf", "perfectpanel"),
    ]
    assert shell.ok("wallet", "show", "demo")["balance"] == 100
    assert asked(sandbox) == len(PANELS)
    for panel in PANELS:
        assert len(shell.ok("catalog", "show", panel.slug)["services"]) == len(sandbox.panels[panel.slug].services)
        assert stage.parts.vault.key(Account(panel.slug)).value == f"sandbox-{panel.slug}-key"


def test_a_second_time_changes_nothing(shell: Shell, stage: Console, sandbox: Sandbox) -> None:
    key = plant(stage, sandbox)
    before = shell.ok("providers", "list")
    assert plant(stage, sandbox, key) == key
    assert shell.ok("providers", "list") == before
    assert shell.ok("wallet", "show", "demo")["balance"] == 100
    assert len(shell.ok("clients", "list", "demo")["clients"]) == 1
    assert asked(sandbox) == len(PANELS)


def test_providers_follow_the_sandbox_to_another_port(shell: Shell, stage: Console, sandbox: Sandbox) -> None:
    plant(stage, sandbox)
    shell.ok("providers", "set", "smosale", "--burst", "7")
    with Sandbox() as elsewhere:
        plant(stage, elsewhere)
        shown = shell.ok("providers", "show", "smosale")
        assert shown["url"] == f"{elsewhere.url}/smosale/api/v2"
        assert shown["burst"] == 7
        assert asked(elsewhere) == 0


def test_a_key_that_was_lost_or_revoked_is_replaced(shell: Shell, stage: Console, sandbox: Sandbox) -> None:
    first = plant(stage, sandbox)
    second = plant(stage, sandbox, "pg_live_demo_nonsense")
    assert second != first
    third = plant(stage, sandbox, first)
    assert third not in (first, second)
    live = [client for client in shell.ok("clients", "list", "demo")["clients"] if not client["revoked"]]
    assert len(live) == 1
