from decimal import Decimal
from typing import Any

import pytest

from chalicelib.actions import Balance
from chalicelib.aws.rotations import ENDS, Rotation, Rotations, Step
from chalicelib.errors import PanelgateError, Refusal, Unavailable
from chalicelib.model import Account, Source
from chalicelib.panels import DIALECTS
from chalicelib.ports import Mark
from cli.console import Console, Failure
from sandbox.faults import ActiveFault
from sandbox.panel import Customer
from sandbox.server import Sandbox
from tests.cli.conftest import Shell, amount, give_own_key, panel_key
from tests.cli.test_orders import buy

ADD = ("providers", "add", "smosale", "--dialect", "perfectpanel", "--url")
WAYS = [
    (Step.PENDING,),
    (Step.PENDING, Step.PROVED),
    (Step.PENDING, Step.PROVED, Step.PROMOTED),
    (Step.PENDING, Step.PROVED, Step.PROMOTED, Step.ROLLING_BACK),
]
"""How far a rotation may have come that has not come to an end."""


def url_of(sandbox: Sandbox, slug: str = "smosale") -> str:
    return f"{sandbox.url}/{slug}/api/v2"


def requests(sandbox: Sandbox, slug: str, action: str) -> int:
    return sum(entry.action == action for entry in sandbox.panels[slug].journal.entries)


def test_add_proves_the_key_and_syncs_the_catalog(shell: Shell, sandbox: Sandbox, stage: Console) -> None:
    added = shell.ok(*ADD, url_of(sandbox), stdin=panel_key("smosale") + "\n")
    assert added == {
        "provider": "smosale",
        "number": 1,
        "dialect": "perfectpanel",
        "url": url_of(sandbox),
        "rate": "unlimited",
        "burst": 1,
        "concurrency": None,
        "batch": 100,
        "currency": "USD",
        "fx": 1,
        "quiet": "1m",
        "exclusive_key": False,
        "enabled": True,
        "balance": amount("100.84292"),
        "services": len(sandbox.panels["smosale"].services),
    }
    assert requests(sandbox, "smosale", "balance") == 1
    assert requests(sandbox, "smosale", "services") == 1
    assert stage.parts.vault.key(Account("smosale")).value == panel_key("smosale")


def test_add_takes_every_option(shell: Shell, sandbox: Sandbox) -> None:
    options = "--rate 30/m --burst 3 --concurrency 4 --batch 50 --currency EUR --fx 1.08 --quiet 2h --exclusive-key"
    added = shell.ok(*ADD, url_of(sandbox), *options.split(), stdin=panel_key("smosale"))
    wanted = {
        "rate": "30/m",
        "burst": 3,
        "concurrency": 4,
        "batch": 50,
        "currency": "EUR",
        "fx": amount("1.08"),
        "quiet": "2h",
        "exclusive_key": True,
    }
    assert {name: added[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("slug", "path", "limit"),
    [("mysticsmm", "mysticsmm/api/v2", ("1/s", 1)), ("smmafrica", "smmafrica/api/v3", ("3/s", 3))],
)
def test_limits_default_to_the_dialects_and_are_kept(
    shell: Shell, sandbox: Sandbox, slug: str, path: str, limit: tuple[str, int]
) -> None:
    arguments = ("providers", "add", slug, "--dialect", slug, "--url", f"{sandbox.url}/{path}")
    added = shell.ok(*arguments, stdin=panel_key(slug))
    assert (added["rate"], added["burst"]) == limit
    assert added["services"] == len(sandbox.panels[slug].services)
    statuses = [entry.status for entry in sandbox.panels[slug].journal.entries]
    assert 429 not in statuses


def test_a_bad_key_leaves_nothing_behind(shell: Shell, sandbox: Sandbox, stage: Console) -> None:
    error = shell.failure(*ADD, url_of(sandbox), stdin="canary-bad-key-7731")
    assert error == "smosale rejects the key. Nothing was stored."
    assert shell.ok("providers", "list") == {"providers": []}
    with pytest.raises(PanelgateError):
        stage.parts.vault.key(Account("smosale"))
    assert shell.ok(*ADD, url_of(sandbox), stdin=panel_key("smosale"))["number"] == 1


@pytest.mark.parametrize("key", ["", "\n", "short", "two words in it", "x" * 600])
def test_what_is_no_key_is_not_sent(shell: Shell, sandbox: Sandbox, key: str) -> None:
    outcome = shell(*ADD, url_of(sandbox), "--json", stdin=key)
    assert outcome.code == 1
    assert "key" in outcome.error
    assert not sandbox.panels["smosale"].journal.entries


def test_add_again_says_what_to_do(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    error = shell.failure(*ADD, url_of(sandbox), stdin="canary-other-key-1")
    assert "providers set" in error
    assert requests(sandbox, smosale, "balance") == 1


def test_a_currency_that_was_not_expected_is_not_taken_for_usd(
    shell: Shell, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Balance(amount("5"), "NGN")
    monkeypatch.setattr(type(DIALECTS["perfectpanel"]), "decode", lambda *_arguments: answer)
    error = shell.failure(*ADD, url_of(sandbox), stdin=panel_key("smosale"))
    assert "--currency NGN" in error
    assert "--fx" in error


def test_a_provider_that_cannot_be_reached(shell: Shell, sandbox: Sandbox) -> None:
    url = url_of(sandbox)
    sandbox.stop()
    error = shell.failure(*ADD, url, stdin=panel_key("smosale"))
    assert error.startswith("smosale cannot be asked: ")
    assert error.endswith("Nothing was stored.")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("--url https://panel.example/api/v2", "--dialect"),
        ("--dialect perfectpanel", "--url"),
        ("--dialect nonsense --url https://panel.example", "perfectpanel"),
        ("--dialect perfectpanel --url http://10.0.0.1/api", "loopback"),
        ("--dialect perfectpanel --url ftp://127.0.0.1/api", "https://"),
        ("--dialect perfectpanel --url http://u:p@127.0.0.1:8080/api", "password"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --rate 10", "1/s"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --rate 0/s", "1/s"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --quiet 10", "10m"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --quiet 31d", "30d"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --batch 101", "100"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --concurrency 0", "unlimited"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --currency EUR", "--fx"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --fx 2", "--currency"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --currency EUR --fx 0", "0.00065"),
        ("--dialect perfectpanel --url http://127.0.0.1:8080 --currency EUR --fx NaN", "0.00065"),
    ],
)
def test_wrong_use_of_add(shell: Shell, arguments: str, advice: str) -> None:
    assert advice in shell.misuse("providers", "add", "panel", *arguments.split())


def test_a_slug_is_checked(shell: Shell) -> None:
    error = shell.misuse("providers", "add", "No_Slug", "--dialect", "perfectpanel", "--url", "https://panel.example")
    assert "lower-case" in error


def test_list_and_show(shell: Shell, smosale: str) -> None:
    listed = shell.ok("providers", "list")["providers"]
    shown = shell.ok("providers", "show", smosale)
    assert shown.pop("synced").endswith("Z")
    assert listed == [shown]
    text = shell("providers", "show", smosale).out
    assert "perfectpanel" in text
    assert "smosale" in shell("providers", "list").out


@pytest.mark.parametrize("verb", ["show", "enable", "disable", "check", "remove"])
def test_a_provider_that_is_not_there(shell: Shell, verb: str) -> None:
    assert shell.failure("providers", verb, "nobody") == "There is no provider nobody."


def test_set_changes_what_is_named_and_nothing_else(shell: Shell, smosale: str) -> None:
    before = shell.ok("providers", "show", smosale)
    changed = shell.ok("providers", "set", smosale, "--rate", "2/s", "--concurrency", "5", "--exclusive-key")
    assert changed["rate"] == "2/s"
    changed = shell.ok("providers", "set", smosale, "--currency", "EUR", "--fx", "1.1")
    assert (changed["currency"], changed["fx"]) == ("EUR", amount("1.1"))
    assert shell.ok("providers", "set", smosale, "--fx", "1.2")["fx"] == amount("1.2")
    back = ("--currency", "USD", "--rate", "unlimited", "--concurrency", "unlimited", "--no-exclusive-key")
    shell.ok("providers", "set", smosale, *back)
    assert shell.ok("providers", "show", smosale) == before


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("", "Say what to change"),
        ("--url http://8.8.8.8/", "loopback"),
        ("--currency EUR", "--fx"),
        ("--fx 2", "--currency"),
    ],
)
def test_wrong_use_of_set(shell: Shell, smosale: str, arguments: str, advice: str) -> None:
    assert advice in shell.misuse("providers", "set", smosale, *arguments.split())


def test_disable_and_enable(shell: Shell, smosale: str) -> None:
    assert shell.ok("providers", "disable", smosale)["enabled"] is False
    assert shell.ok("providers", "show", smosale)["enabled"] is False
    assert shell.ok("providers", "enable", smosale)["enabled"] is True


def test_check_asks_the_panel_now(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    checked = shell.ok("providers", "check", smosale)
    latency = checked.pop("latency_ms")
    assert checked == {
        "provider": smosale,
        "balance": amount("100.84292"),
        "currency": "USD",
        "services": len(sandbox.panels[smosale].services),
        "skipped": 0,
    }
    assert set(latency) == {"balance", "services"}
    assert all(0 <= milliseconds < 5000 for milliseconds in latency.values())
    assert requests(sandbox, smosale, "balance") == 2
    assert "ms" in shell("providers", "check", smosale).out


def test_check_fails_with_a_key_that_the_panel_no_longer_takes(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    sandbox.panels[smosale].keys = ["another-key-by-now"]
    assert shell.failure("providers", "check", smosale) == "smosale rejects the key."


def test_remove_wants_a_yes(shell: Shell, smosale: str) -> None:
    assert "--yes" in shell.misuse("providers", "remove", smosale)
    assert shell.ok("providers", "remove", smosale, "--yes") == {"provider": smosale, "removed": True}
    assert shell.ok("providers", "list") == {"providers": []}


def test_remove_refuses_while_a_tenant_names_it(shell: Shell, smosale: str) -> None:
    shell.ok("tenants", "create", "acme", "--providers", smosale)
    assert "acme" in shell.failure("providers", "remove", smosale, "--yes")
    shell.ok("tenants", "set", "acme", "--providers", "all")
    shell.ok("providers", "remove", smosale, "--yes")


def test_remove_refuses_while_an_order_is_not_settled(
    shell: Shell, sandbox: Sandbox, smosale: str, acme: str, stage: Console
) -> None:
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    key = shell.ok("clients", "create", acme)["key"]
    sandbox.panels[smosale].faults.append(ActiveFault("reset", action="add", count=1))
    order = stage.parts.orders.get(acme, buy(stage, key))
    assert order is not None
    assert "1 orders at smosale are not settled" in shell.failure("providers", "remove", smosale, "--yes")
    assert shell.ok("providers", "list")["providers"]
    stage.parts.orders.give_up(order, "decided", until=2**62, source=Source.OPERATOR)
    shell.ok("providers", "remove", smosale, "--yes")


def test_remove_minds_the_accounts_of_tenants_and_forgets_their_keys(
    shell: Shell, sandbox: Sandbox, smosale: str, acme: str, stage: Console
) -> None:
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    key = shell.ok("clients", "create", acme)["key"]
    give_own_key(stage, sandbox, smosale, acme)
    sandbox.panels[smosale].faults.append(ActiveFault("reset", action="add", count=1))
    order = stage.parts.orders.get(acme, buy(stage, key))
    assert order is not None
    stage.registry.set_own_key(acme, smosale, is_used=False)
    assert "1 orders at smosale are not settled" in shell.failure("providers", "remove", smosale, "--yes")
    stage.parts.orders.give_up(order, "decided", until=2**62, source=Source.OPERATOR)
    shell.ok("providers", "remove", smosale, "--yes")
    for account in (Account(smosale), Account(smosale, acme)):
        with pytest.raises(Unavailable):
            stage.parts.vault.key(account, fresh=True)


def test_what_was_removed_can_be_added_again(shell: Shell, sandbox: Sandbox, smosale: str, stage: Console) -> None:
    shell.ok("providers", "remove", smosale, "--yes")
    sandbox.panels[smosale].keys = ["sandbox-key-number-two"]
    added = shell.ok(*ADD, url_of(sandbox), stdin="sandbox-key-number-two")
    assert added["number"] == 1, "public ids hold the number"
    assert stage.parts.vault.key(Account(smosale), fresh=True).value == "sandbox-key-number-two"


def test_a_key_that_cannot_be_stored_takes_the_provider_with_it(
    shell: Shell, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise Failure("AWS refused it.")

    with monkeypatch.context() as patch:
        patch.setattr("cli.providers.store", refuse)
        assert shell.failure(*ADD, url_of(sandbox), stdin=panel_key("smosale")) == "AWS refused it."
    assert shell.ok("providers", "list") == {"providers": []}


def test_what_cannot_be_stored_leaves_no_key_behind(
    shell: Shell, sandbox: Sandbox, stage: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise Failure("AWS refused it.")

    with monkeypatch.context() as patch:
        patch.setattr(Rotations, "begin", refuse)
        assert shell.failure(*ADD, url_of(sandbox), stdin=panel_key("smosale")) == "AWS refused it."
    with pytest.raises(Unavailable):
        stage.parts.vault.key(Account("smosale"), fresh=True)
    shell.ok(*ADD, url_of(sandbox), stdin=panel_key("smosale"))


def test_the_key_of_a_removed_provider_buys_nothing_when_it_is_added_again(
    shell: Shell, sandbox: Sandbox, smosale: str, acme: str, stage: Console
) -> None:
    """It opened another account, of which nothing is known any more."""
    shell.ok("providers", "remove", smosale, "--yes")
    sandbox.panels[smosale].customers["new"] = Customer(["canary-key-of-the-new-account"], Decimal(50))
    shell.ok(*ADD, url_of(sandbox), stdin="canary-key-of-the-new-account")
    sandbox.panels[smosale].customers["new"].keys = ["canary-another-one-by-now"]
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    with pytest.raises(Refusal):
        buy(stage, shell.ok("clients", "create", acme)["key"])
    assert sandbox.panels[smosale].orders == {}


def test_the_marks_of_a_removed_provider_are_not_of_the_account_that_is_added(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console
) -> None:
    accounts = stage.parts.following.accounts
    at = stage.parts.clock.now()
    mark = Mark(at=at, balance=Decimal(1), top=0, top_after=0, charges={}, unsettled=frozenset())
    accounts.add(Account(smosale), mark, until=2**62)
    assert list(accounts.marks(Account(smosale))) == [mark]
    shell.ok("providers", "remove", smosale, "--yes")
    shell.ok(*ADD, url_of(sandbox), stdin=panel_key(smosale))
    assert list(accounts.marks(Account(smosale))) == []


@pytest.mark.parametrize("steps", WAYS, ids=lambda steps: steps[-1])
@pytest.mark.parametrize("tenant", [None, "acme"])
@pytest.mark.usefixtures("acme")
def test_remove_ends_a_rotation_that_was_broken_off(  # noqa: PLR0913 - fixtures and cases
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console, *, steps: tuple[Step, ...], tenant: str | None
) -> None:
    account, rotations = Account(smosale, tenant), Rotations(stage.parts.table)
    stage.parts.vault.store_pending(account, "canary-the-pending-key", token="2" * 32)
    rotation = rotations.begin(Rotation(account=account, version="2" * 32))
    for step in steps[1:]:
        rotation = rotations.advance(rotation, step)
    shell.ok("providers", "remove", smosale, "--yes")
    ended = rotations.get(account, rotation.version)
    assert ended is not None
    assert ended.step in ENDS
    assert ended.events[-1]["reason"] == "the provider was removed"
    with pytest.raises(Unavailable):
        stage.parts.vault.version(account, rotation.version)
    shell.ok(*ADD, url_of(sandbox), stdin=panel_key(smosale))
    sandbox.panels[smosale].keys.append("canary-the-second-key")
    shell.ok("keys", "rotate", smosale, "--watch", "0s", stdin="canary-the-second-key")
    assert rotations.unfinished(account) is None


def test_a_key_that_is_rotated_while_its_provider_is_removed_is_not_kept(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.panels[smosale].keys.append("canary-the-second-key")
    begin = Rotations.begin

    def begin_and_remove(self: Rotations, new: Rotation, **facts: Any) -> Rotation:
        begun = begin(self, new, **facts)
        shell.ok("providers", "remove", smosale, "--yes")
        return begun

    with monkeypatch.context() as patch:
        patch.setattr(Rotations, "begin", begin_and_remove)
        error = shell.failure("keys", "rotate", smosale, "--watch", "0s", stdin="canary-the-second-key")
    assert error == f"There is no provider {smosale}."
    assert Rotations(stage.parts.table).unfinished(Account(smosale)) is None
    with pytest.raises(Unavailable):
        stage.parts.vault.key(Account(smosale), fresh=True)


def test_a_catalog_that_cannot_be_read_is_told_apart_from_a_bad_key(
    shell: Shell, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise PanelgateError("no JSON")

    with monkeypatch.context() as patch:
        patch.setattr("cli.providers.sync_catalog", fail)
        error = shell.failure(*ADD, url_of(sandbox), stdin=panel_key("smosale"))
    assert "was added" in error
    assert "panelgate catalog sync smosale" in error
    assert shell.ok("catalog", "sync", "smosale")["synced"][0]["services"] > 0
