"""`panelgate keys` against the sandbox panels: what proves a key, what is told, and never a key."""

import threading
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.rotations import Rotation, Rotations
from chalicelib.model import Account, Order, Source
from cli.console import Console
from sandbox.faults import ActiveFault
from sandbox.panel import Customer
from sandbox.server import Sandbox
from tests.cli.conftest import STAGE, Shell, panel_key
from tests.cli.test_orders import buy

NEW, OTHER = "canary-new-provider-key-42", "canary-other-provider-key-43"
TOKEN = "9b1c3b9e-0000-4000-8000-000000000001"
ROTATE = ("keys", "rotate", "smosale", "--watch", "0s")


def stages(console: Console, slug: str) -> dict[str, list[str]]:
    client: Any = console.aws.session.client("secretsmanager", endpoint_url=console.aws.endpoint)
    versions: dict[str, list[str]] = client.describe_secret(SecretId=f"panelgate/{STAGE}/providers/{slug}")[
        "VersionIdsToStages"
    ]
    return {version: labels for version, labels in versions.items() if labels}


def current(console: Console, account: Account) -> str:
    return console.parts.vault.key(account, fresh=True).value


@pytest.fixture
def second_key(sandbox: Sandbox, smosale: str) -> str:
    """Return one more key of the account."""
    sandbox.panels[smosale].keys.append(NEW)
    return NEW


def test_a_good_key_is_promoted_and_the_old_one_kept(
    shell: Shell, smosale: str, second_key: str, stage: Console
) -> None:
    old = stage.parts.vault.key(Account(smosale))
    rotated = shell.ok(*ROTATE, stdin=f"{second_key}\n")
    assert rotated == {
        "provider": smosale,
        "tenant": None,
        "version": rotated["version"],
        "before": old.version,
        "step": "done",
        "balance": rotated["balance"],
        "currency": "USD",
        "old_key": "works",
        "same_balance": True,
        "same_order": None,
    }
    key = stage.parts.vault.key(Account(smosale), fresh=True)
    assert (key.value, key.version) == (NEW, rotated["version"])
    labels = stages(stage, smosale)
    assert labels[old.version] == ["AWSPREVIOUS"]
    assert labels[key.version] == ["AWSCURRENT"]
    assert Rotations(stage.parts.table).unfinished(Account(smosale)) is None


def test_a_bad_key_is_dropped_and_the_old_one_stays(shell: Shell, smosale: str, stage: Console) -> None:
    error = shell.failure(*ROTATE, stdin="canary-bad-key-0001")
    assert error == "smosale rejects the key. The new key was dropped; the old one stays in use."
    assert current(stage, Account(smosale)) == panel_key(smosale)
    assert not any("AWSPENDING" in labels for labels in stages(stage, smosale).values())
    assert [one["step"] for one in shell.ok("keys", "history", smosale)["versions"]] == ["done", "failed"]
    shell.ok("providers", "check", smosale)


def test_a_panel_that_does_not_answer_proves_nothing(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console
) -> None:
    sandbox.stop()
    error = shell.failure(*ROTATE, stdin=NEW)
    assert "the old one stays" in error
    assert current(stage, Account(smosale)) == panel_key(smosale)


FAULTS = ["429", "500", "html", "truncated", "garbage_json", "echo_key", "redirect", "unknown_error", "deep_json"]


def asked(sandbox: Sandbox, slug: str) -> list[tuple[str, str | None]]:
    """Return the keys that a panel was asked with, each with the fault that it met."""
    entries = [one for one in sandbox.panels[slug].journal.entries if one.action == "balance"]
    return [(parse_qs(one.body)["key"][0], one.fault) for one in entries]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reply_that_is_no_balance_proves_nothing_and_tells_no_key(
    shell: Shell, sandbox: Sandbox, second_key: str, stage: Console, fault: str
) -> None:
    sandbox.panels["smosale"].faults.append(ActiveFault(fault=fault, action="balance", count=1))
    assert "the old one stays" in shell.failure(*ROTATE, "--other-account", stdin=second_key)
    assert asked(sandbox, "smosale")[-1] == (second_key, fault)
    assert current(stage, Account("smosale")) == panel_key("smosale")


@pytest.mark.parametrize("fault", FAULTS)
def test_an_old_key_that_cannot_be_asked_is_told_from_the_new_one(
    shell: Shell, sandbox: Sandbox, second_key: str, stage: Console, fault: str
) -> None:
    sandbox.panels["smosale"].faults.append(ActiveFault(fault=fault, action="balance", count=1))
    error = shell.failure(*ROTATE, stdin=second_key)
    assert error.startswith("smosale takes the new key, but the key in use cannot be asked (smosale ")
    assert asked(sandbox, "smosale")[-2:] == [(panel_key("smosale"), fault), (second_key, None)]
    assert current(stage, Account("smosale")) == panel_key("smosale")


def test_the_answer_for_people_names_no_key(shell: Shell, smosale: str, second_key: str) -> None:
    outcome = shell(*ROTATE, stdin=second_key)
    assert outcome.code == 0
    assert f"`keys rollback {smosale}`" in outcome.out


def test_there_must_be_such_a_provider(shell: Shell) -> None:
    assert shell.failure("keys", "rotate", "nobody", stdin=NEW) == "There is no provider nobody."


def test_a_key_is_no_argument(shell: Shell, smosale: str) -> None:
    assert shell("keys", "rotate", smosale, "positional").code == 2


# -- the same account --------------------------------------------------------------------------------------------------


@pytest.fixture
def other_account(sandbox: Sandbox, smosale: str) -> Customer:
    """Return an account of somebody else at the panel."""
    customer = Customer([OTHER], Decimal("12.5"))
    sandbox.panels[smosale].customers["somebody"] = customer
    return customer


def bought(shell: Shell, stage: Console) -> Order:
    shell.ok("wallet", "credit", "acme", "100", "--reference", "start")
    order = stage.parts.orders.get("acme", buy(stage, shell.ok("clients", "create", "acme")["key"]))
    assert order is not None
    return order


def ordered(shell: Shell, stage: Console) -> int:
    """Buy something, and return its number at the panel."""
    number = bought(shell, stage).provider_order
    assert number is not None
    return number


def lost(shell: Shell, sandbox: Sandbox, stage: Console) -> Order:
    """Buy something, and lose the answer."""
    sandbox.panels["smosale"].faults.append(ActiveFault(fault="reset", action="add", count=1))
    return bought(shell, stage)


def test_the_key_of_another_account_is_refused_unless_that_is_meant(
    shell: Shell, sandbox: Sandbox, smosale: str, other_account: Customer, stage: Console
) -> None:
    error = shell.failure(*ROTATE, stdin=OTHER)
    assert error.startswith("This is the key of another account at smosale: its balance is another one.")
    assert current(stage, Account(smosale)) == panel_key(smosale)
    assert other_account.balance != sandbox.panels[smosale].balance
    assert shell.ok(*ROTATE, "--other-account", stdin=OTHER)["balance"] == Decimal("12.5")
    assert current(stage, Account(smosale)) == OTHER


@pytest.mark.usefixtures("acme", "other_account")
def test_an_account_is_not_left_while_a_purchase_there_is_not_settled(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console
) -> None:
    """Only the account that bought an order can tell what became of it."""
    shell.ok(*ROTATE, "--other-account", stdin=OTHER)
    order = lost(shell, sandbox, stage)
    asked = len(sandbox.panels[smosale].journal.entries)
    third = "canary-third-provider-key"
    error = shell.failure(*ROTATE, "--other-account", "--yes", stdin=third)
    assert error.startswith("1 orders at smosale are not settled.")
    assert shell.failure("keys", "rollback", smosale, "--yes") == error
    assert current(stage, Account(smosale)) == OTHER
    assert len(sandbox.panels[smosale].journal.entries) == asked
    stage.parts.orders.give_up(order, "decided", until=2**62, source=Source.OPERATOR)
    assert shell.ok("keys", "rollback", smosale, "--yes")["step"] == "rolled_back"


@pytest.mark.usefixtures("acme", "other_account")
def test_who_leaves_an_account_with_open_orders_says_so(shell: Shell, smosale: str, stage: Console) -> None:
    ordered(shell, stage)
    assert "--yes" in shell.misuse(*ROTATE, "--other-account", stdin=OTHER)
    assert current(stage, Account(smosale)) == panel_key(smosale)
    assert Rotations(stage.parts.table).unfinished(Account(smosale)) is None
    shell.ok(*ROTATE, "--other-account", "--yes", stdin=OTHER)
    assert "--yes" in shell.misuse("keys", "rollback", smosale)
    assert current(stage, Account(smosale)) == OTHER
    shell.ok("keys", "rollback", smosale, "--yes")
    assert current(stage, Account(smosale)) == panel_key(smosale)


@pytest.mark.usefixtures("acme", "other_account")
def test_a_rotation_that_was_broken_off_is_held_to_its_orders_until_it_is_in_use(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console
) -> None:
    rotations, account = Rotations(stage.parts.table), Account(smosale)
    before = stage.parts.vault.key(account).version
    begun = Rotation(account=account, version=TOKEN, before=before, other_account=True)
    rotations.begin(begun, by="a command that died")
    order = lost(shell, sandbox, stage)
    assert "1 orders at smosale are not settled" in shell.failure(*ROTATE, stdin=OTHER)
    stage.parts.orders.give_up(order, "decided", until=2**62, source=Source.OPERATOR)
    stage.parts.vault.promote(account, stage.parts.vault.store_pending(account, OTHER, token=TOKEN).version)
    lost(shell, sandbox, stage)
    assert "1 orders at smosale are not settled" in shell.failure("keys", "rollback", smosale)
    assert shell.ok(*ROTATE, stdin=OTHER)["step"] == "done"


@pytest.mark.usefixtures("acme")
def test_an_account_with_the_same_balance_by_chance_is_known_by_our_orders(
    shell: Shell, sandbox: Sandbox, smosale: str, other_account: Customer, stage: Console
) -> None:
    number = ordered(shell, stage)
    other_account.balance = sandbox.panels[smosale].funds()
    assert f"it does not know our order {number}" in shell.failure(*ROTATE, stdin=OTHER)
    assert current(stage, Account(smosale)) == panel_key(smosale)


@pytest.mark.usefixtures("acme")
def test_where_the_old_key_is_dead_our_orders_tell_the_account(
    shell: Shell, sandbox: Sandbox, smosale: str, other_account: Customer, stage: Console
) -> None:
    number = ordered(shell, stage)
    assert other_account.keys == [OTHER]
    sandbox.panels[smosale].keys[:] = [NEW]
    assert f"it does not know our order {number}" in shell.failure(*ROTATE, stdin=OTHER)
    rotated = shell.ok(*ROTATE, stdin=NEW)
    assert (rotated["old_key"], rotated["same_balance"], rotated["same_order"]) == ("rejected", False, number)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_the_same_token_is_the_same_rotation(shell: Shell, smosale: str, second_key: str, stage: Console) -> None:
    first = shell.ok(*ROTATE, "--token", TOKEN, stdin=second_key)
    assert first["version"] == TOKEN
    before = stages(stage, smosale)
    again = shell.ok(*ROTATE, "--token", TOKEN, stdin=second_key)
    assert (again["version"], again["step"]) == (TOKEN, "done")
    assert stages(stage, smosale) == before


def test_a_used_token_with_another_key_is_refused(
    shell: Shell, sandbox: Sandbox, smosale: str, second_key: str, stage: Console
) -> None:
    shell.ok(*ROTATE, "--token", TOKEN, stdin=second_key)
    sandbox.panels[smosale].keys.append(OTHER)
    error = shell.failure(*ROTATE, "--token", TOKEN, stdin=OTHER)
    assert error == f"The token {TOKEN} was used for another key."
    assert current(stage, Account(smosale)) == NEW


def test_a_used_token_does_not_speak_for_a_key_that_came_later(
    shell: Shell, sandbox: Sandbox, smosale: str, second_key: str, stage: Console
) -> None:
    shell.ok(*ROTATE, "--token", TOKEN, stdin=second_key)
    sandbox.panels[smosale].keys.append(OTHER)
    later = shell.ok(*ROTATE, stdin=OTHER)["version"]
    error = shell.failure(*ROTATE, "--token", TOKEN, stdin=second_key)
    assert error == (
        f"The rotation {TOKEN} has ended as done, and version {later} is in use. Use another token for a new one."
    )
    assert current(stage, Account(smosale)) == OTHER


@pytest.mark.usefixtures("other_account")
def test_a_used_token_gives_a_withdrawn_own_key_again(shell: Shell, smosale: str, acme: str, stage: Console) -> None:
    shell.ok(*ROTATE, "--tenant", acme, "--token", TOKEN, stdin=OTHER)
    shell.ok("keys", "withdraw", smosale, "--tenant", acme)
    given = shell.ok(*ROTATE, "--tenant", acme, "--token", TOKEN, stdin=OTHER)
    assert (given["version"], given["balance"]) == (TOKEN, Decimal("12.5"))
    assert stage.registry.tenant(acme).own_keys == {smosale}


def test_secrets_manager_itself_refuses_a_used_token_with_another_key(smosale: str, stage: Console) -> None:
    vault = stage.parts.vault
    vault.store_pending(Account(smosale), NEW, token=TOKEN)
    vault.store_pending(Account(smosale), NEW, token=TOKEN)
    with pytest.raises(ClientError, match="ResourceExistsException"):
        vault.store_pending(Account(smosale), OTHER, token=TOKEN)


def test_the_key_that_is_in_use_is_not_rotated_to_again(
    shell: Shell, sandbox: Sandbox, smosale: str, second_key: str, stage: Console
) -> None:
    first = shell.ok(*ROTATE, stdin=second_key)
    before, asked = stages(stage, smosale), len(sandbox.panels[smosale].journal.entries)
    assert shell.ok(*ROTATE, stdin=second_key)["version"] == first["version"]
    assert stages(stage, smosale) == before
    assert len(sandbox.panels[smosale].journal.entries) == asked


@pytest.mark.parametrize("token", ["short", "0" * 36, TOKEN.replace("-", ""), f"{TOKEN}0", f"g{TOKEN[1:]}"])
def test_a_token_is_a_uuid(shell: Shell, smosale: str, token: str) -> None:
    """So a key that is typed here is none."""
    assert "a UUID" in shell.misuse("keys", "rotate", smosale, "--token", token)


# -- back --------------------------------------------------------------------------------------------------------------


def test_rollback_takes_the_key_before(shell: Shell, smosale: str, second_key: str, stage: Console) -> None:
    old = stage.parts.vault.key(Account(smosale))
    new = shell.ok(*ROTATE, stdin=second_key)["version"]
    back = shell.ok("keys", "rollback", smosale)
    assert (back["version"], back["given_up"], back["step"]) == (old.version, new, "rolled_back")
    assert stages(stage, smosale) == {old.version: ["AWSCURRENT"], new: ["AWSPREVIOUS"]}
    assert "no key at smosale to go back to that works" in shell.failure("keys", "rollback", smosale)
    assert current(stage, Account(smosale)) == panel_key(smosale)
    again = shell.ok(*ROTATE, stdin=second_key)
    assert again["version"] != new


def test_rollback_to_a_dead_key_changes_nothing(
    shell: Shell, sandbox: Sandbox, smosale: str, second_key: str, stage: Console
) -> None:
    shell.ok(*ROTATE, stdin=second_key)
    sandbox.panels[smosale].keys[:] = [NEW]
    assert "Nothing was changed." in shell.failure("keys", "rollback", smosale)
    assert current(stage, Account(smosale)) == NEW


def test_there_is_nothing_to_roll_back_at_first(shell: Shell, smosale: str) -> None:
    assert "no key at smosale to go back to" in shell.failure("keys", "rollback", smosale)


def test_a_new_key_that_is_revoked_while_it_is_watched_is_rolled_back(
    shell: Shell, sandbox: Sandbox, smosale: str, second_key: str, stage: Console
) -> None:
    def revoke() -> None:
        while current(stage, Account(smosale)) != NEW:
            pass
        sandbox.panels[smosale].keys[:] = [panel_key(smosale)]
        stage.parts.vault._rotations.note_rejection(  # noqa: SLF001 - as a Lambda does
            Account(smosale), stage.parts.vault.key(Account(smosale)).version, until=2**62
        )

    revoking = threading.Thread(target=revoke)
    revoking.start()
    error = shell.failure("keys", "rotate", smosale, "--watch", "20s", stdin=second_key)
    revoking.join()
    assert error == "smosale rejects the new key: the one before is in use again."
    assert current(stage, Account(smosale)) == panel_key(smosale)
    shown = shell.ok("keys", "history", smosale)["versions"][-1]
    assert [event["step"] for event in shown["events"]][-2:] == ["rolling_back", "rolled_back"]
    assert shown["rejected_at"] is not None


# -- history -----------------------------------------------------------------------------------------------------------


def test_history_says_who_when_and_what_proved_it(shell: Shell, smosale: str, second_key: str) -> None:
    shell.ok(*ROTATE, stdin=second_key)
    told = shell.ok("keys", "history", smosale)
    assert (told["provider"], told["tenant"]) == (smosale, None)
    first, second = told["versions"]
    assert (first["step"], first["labels"], first["before"]) == ("done", ["AWSPREVIOUS"], None)
    assert first["proof"]["currency"] == "USD"
    assert (second["step"], second["labels"], second["before"]) == ("done", ["AWSCURRENT"], first["version"])
    assert second["proof"]["same_balance"] is True
    assert [event["step"] for event in second["events"]] == ["pending", "proved", "promoted", "done"]
    assert all(event["by"].startswith("arn:") and event["at"].endswith("Z") for event in second["events"])
    assert second["began_at"] <= second["promoted_at"]
    lines = shell("keys", "history", smosale).out.splitlines()
    assert lines[0].split() == ["version", "step", "labels", "began", "by", "proof"]
    assert len(lines) == 3


def test_history_shows_versions_that_nobody_recorded(shell: Shell, smosale: str, stage: Console) -> None:
    stage.parts.vault.store_pending(Account(smosale), NEW, token=TOKEN)
    shown = shell.ok("keys", "history", smosale)["versions"][0]
    assert (shown["version"], shown["step"], shown["labels"]) == (TOKEN, None, ["AWSPENDING"])


# -- a tenant's own key ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("other_account")
def test_a_tenants_first_own_key_is_given_by_a_rotation(
    shell: Shell, sandbox: Sandbox, smosale: str, acme: str, stage: Console
) -> None:
    own = Account(smosale, acme)
    given = shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    assert (given["tenant"], given["before"], given["balance"]) == (acme, None, Decimal("12.5"))
    assert current(stage, own) == OTHER
    assert current(stage, Account(smosale)) == panel_key(smosale)
    assert stage.registry.tenant(acme).own_keys == {smosale}
    sandbox.panels[smosale].customers["somebody"].keys.append("canary-own-key-number-2")
    assert shell.ok(*ROTATE, "--tenant", acme, stdin="canary-own-key-number-2")["same_balance"] is True
    shell.ok("keys", "rollback", smosale, "--tenant", acme)
    assert current(stage, own) == OTHER
    assert len(shell.ok("keys", "history", smosale, "--tenant", acme)["versions"]) == 2
    assert len(shell.ok("keys", "history", smosale)["versions"]) == 1


@pytest.mark.usefixtures("other_account")
def test_a_withdrawn_own_key_is_given_again_by_the_same_key(
    shell: Shell, smosale: str, acme: str, stage: Console
) -> None:
    given = shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    shell.ok("keys", "withdraw", smosale, "--tenant", acme)
    assert stage.registry.tenant(acme).own_keys == frozenset()
    assert shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)["version"] == given["version"]
    assert stage.registry.tenant(acme).own_keys == {smosale}


@pytest.mark.parametrize("is_known_by", ["its text", "an order"])
def test_an_own_key_must_not_open_the_operators_account(
    shell: Shell, acme: str, stage: Console, second_key: str, is_known_by: str
) -> None:
    if is_known_by == "an order":
        shell.ok("wallet", "credit", acme, "100", "--reference", "start")
        buy(stage, shell.ok("clients", "create", acme)["key"])
    own = second_key if is_known_by == "an order" else panel_key("smosale")
    error = shell.failure(*ROTATE, "--tenant", acme, stdin=own)
    assert error == "This key opens your own account at smosale, not one of acme's. The new key was dropped."
    assert stage.registry.tenant(acme).own_keys == frozenset()


def test_an_own_key_must_not_open_the_operators_account_later_either(
    shell: Shell, smosale: str, acme: str, stage: Console, other_account: Customer
) -> None:
    shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    other_account.keys.clear()  # nothing tells that a new one is of the same account
    error = shell.failure(*ROTATE, "--tenant", acme, stdin=panel_key(smosale))
    assert error.startswith("This key opens your own account at smosale, not one of acme's.")
    assert current(stage, Account(smosale, acme)) == OTHER


@pytest.mark.parametrize("is_known_by", ["its text", "an order"])
def test_the_operators_key_must_not_open_a_tenants_account(
    shell: Shell, acme: str, stage: Console, other_account: Customer, is_known_by: str
) -> None:
    shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    own = OTHER
    if is_known_by == "an order":
        bought(shell, stage)
        own = "canary-own-key-number-2"
        other_account.keys.append(own)
    error = shell.failure(*ROTATE, "--other-account", stdin=own)
    assert error.startswith("This key opens acme's account at smosale, not one of yours. The new key was dropped")
    assert current(stage, Account("smosale")) == panel_key("smosale")


@pytest.mark.usefixtures("smosale")
def test_a_bad_first_own_key_leaves_the_tenant_with_the_operators(shell: Shell, acme: str, stage: Console) -> None:
    error = shell.failure(*ROTATE, "--tenant", acme, stdin="canary-bad-key-0001")
    assert error == "smosale rejects the key. The new key was dropped."
    assert stage.registry.tenant(acme).own_keys == frozenset()


@pytest.mark.usefixtures("other_account")
def test_a_first_own_key_that_could_not_be_proved_can_be_given_again(
    shell: Shell, sandbox: Sandbox, smosale: str, acme: str, stage: Console
) -> None:
    """Secrets Manager makes the first version of a secret the current one; it is in use no more than the key was."""
    sandbox.panels[smosale].faults.append(ActiveFault(fault="500", action="balance", count=1))
    assert "The new key was dropped." in shell.failure(*ROTATE, "--tenant", acme, stdin=OTHER)
    given = shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    assert (given["before"], given["step"]) == (None, "done")
    assert current(stage, Account(smosale, acme)) == OTHER
    assert stage.registry.tenant(acme).own_keys == {smosale}
    assert "no key at smosale to go back to" in shell.failure("keys", "rollback", smosale, "--tenant", acme)


def test_a_typing_mistake_does_not_open_the_operators_account_to_a_tenant(
    shell: Shell, smosale: str, acme: str, stage: Console
) -> None:
    shell.failure(*ROTATE, "--tenant", acme, stdin="canary-bad-key-0001")
    error = shell.failure(*ROTATE, "--tenant", acme, stdin=panel_key(smosale))
    assert error == "This key opens your own account at smosale, not one of acme's. The new key was dropped."
    assert stage.registry.tenant(acme).own_keys == frozenset()


@pytest.mark.usefixtures("other_account")
def test_an_own_key_that_went_with_its_provider_can_be_given_again(
    shell: Shell, sandbox: Sandbox, smosale: str, acme: str, stage: Console
) -> None:
    shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    url = stage.registry.provider(smosale).url
    shell.ok("providers", "remove", smosale, "--yes")
    added = shell(*("providers", "add", smosale, "--dialect", "perfectpanel", "--url", url), stdin=panel_key(smosale))
    assert f"acme orders at {smosale} with a key of its own" in added.err
    assert shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)["step"] == "done"
    assert current(stage, Account(smosale, acme)) == OTHER
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    buy(stage, shell.ok("clients", "create", acme)["key"])
    assert [one.customer for one in sandbox.panels[smosale].orders.values()] == ["somebody"]


@pytest.mark.usefixtures("other_account")
def test_the_operators_key_is_changed_whatever_became_of_a_tenants(
    shell: Shell, smosale: str, acme: str, stage: Console, second_key: str
) -> None:
    shell.ok(*ROTATE, "--tenant", acme, stdin=OTHER)
    stage.parts.vault.forget(Account(smosale, acme))
    assert shell.ok(*ROTATE, stdin=second_key)["step"] == "done"


@pytest.mark.usefixtures("smosale")
def test_there_must_be_such_a_tenant(shell: Shell) -> None:
    assert shell.failure(*ROTATE, "--tenant", "nobody", stdin=NEW) == "There is no tenant nobody."
