from dataclasses import replace

from sandbox.server import Sandbox
from tests.cli.conftest import Shell


def test_sync_and_show(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    [report] = shell.ok("catalog", "sync", smosale)["synced"]
    assert report.pop("at").endswith("Z")
    count = len(sandbox.panels[smosale].services)
    assert report == {"provider": smosale, "services": count, "written": 0, "removed": 0, "left_out": []}
    shown = shell.ok("catalog", "show", smosale)
    assert set(shown) == {"provider", "currency", "synced", "services"}
    assert [row["service"] for row in shown["services"]] == [row["id"] * 1000 + 1 for row in shown["services"]]
    first, service = shown["services"][0], next(iter(sandbox.panels[smosale].services.values()))
    assert (first["name"], first["rate"]) == (service.name, service.rate)


def test_sync_of_all(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    arguments = ("providers", "add", "smmleaf", "--dialect", "perfectpanel", "--url")
    shell.ok(*arguments, f"{sandbox.url}/smmleaf/api/v2", stdin="sandbox-smmleaf-key")
    assert [row["provider"] for row in shell.ok("catalog", "sync")["synced"]] == ["smmleaf", smosale]
    shell.ok("providers", "disable", "smmleaf")
    assert [row["provider"] for row in shell.ok("catalog", "sync")["synced"]] == [smosale]


def test_one_failure_does_not_keep_the_others_from_it(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    arguments = ("providers", "add", "smmleaf", "--dialect", "perfectpanel", "--url")
    shell.ok(*arguments, f"{sandbox.url}/smmleaf/api/v2", stdin="sandbox-smmleaf-key")
    sandbox.panels["smmleaf"].keys = []
    outcome = shell("catalog", "sync", "--json")
    assert outcome.code == 1
    assert outcome.error.startswith("Not synced: smmleaf")
    assert f"{smosale}: " in outcome.err
    assert shell.ok("catalog", "show", "smmleaf")["services"]


def test_what_a_panel_calls_things_cannot_move_the_cursor(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    services = sandbox.panels[smosale].services
    number, service = next(iter(services.items()))
    services[number] = replace(service, name="\x1b[2Jevil")
    shell.ok("catalog", "sync", smosale)
    assert "\x1b" not in shell("catalog", "show", smosale).out


def test_a_provider_that_is_not_there(shell: Shell) -> None:
    assert shell.failure("catalog", "sync", "nobody") == "There is no provider nobody."
    assert shell.failure("catalog", "show", "nobody") == "There is no provider nobody."
