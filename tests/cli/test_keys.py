from typing import Any

import pytest

from chalicelib.model import Account
from cli.console import Console
from sandbox.faults import ActiveFault
from sandbox.server import Sandbox
from tests.cli.conftest import STAGE, Shell, panel_key

NEW = "canary-new-provider-key-42"


def stages(console: Console, slug: str) -> dict[str, list[str]]:
    client: Any = console.aws.session.client("secretsmanager", endpoint_url=console.aws.endpoint)
    versions: dict[str, list[str]] = client.describe_secret(SecretId=f"panelgate/{STAGE}/providers/{slug}")[
        "VersionIdsToStages"
    ]
    return {version: labels for version, labels in versions.items() if labels}


def test_a_good_key_is_promoted_and_the_old_one_kept(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console
) -> None:
    old = stage.parts.vault.key(Account(smosale))
    sandbox.panels[smosale].keys.append(NEW)
    rotated = shell.ok("keys", "rotate", smosale, stdin=f"{NEW}\n")
    assert set(rotated) == {"provider", "version", "balance", "currency"}
    current = stage.parts.vault.key(Account(smosale), fresh=True)
    assert (current.value, current.version) == (NEW, rotated["version"])
    labels = stages(stage, smosale)
    assert labels[old.version] == ["AWSPREVIOUS"]
    assert labels[current.version] == ["AWSCURRENT"]


def test_a_bad_key_is_dropped_and_the_old_one_stays(shell: Shell, smosale: str, stage: Console) -> None:
    error = shell.failure("keys", "rotate", smosale, stdin="canary-bad-key-0001")
    assert error == "smosale rejects the key. The new key was dropped; the old one stays in use."
    assert stage.parts.vault.key(Account(smosale), fresh=True).value == panel_key(smosale)
    assert not any("AWSPENDING" in labels for labels in stages(stage, smosale).values())
    shell.ok("providers", "check", smosale)


def test_a_panel_that_does_not_answer_proves_nothing(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console
) -> None:
    sandbox.stop()
    error = shell.failure("keys", "rotate", smosale, stdin=NEW)
    assert "the old one stays" in error
    assert stage.parts.vault.key(Account(smosale), fresh=True).value == panel_key(smosale)


FAULTS = ["429", "500", "html", "truncated", "garbage_json", "echo_key", "redirect", "unknown_error", "deep_json"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reply_that_is_no_balance_proves_nothing_and_tells_no_key(
    shell: Shell, sandbox: Sandbox, smosale: str, stage: Console, fault: str
) -> None:
    panel = sandbox.panels[smosale]
    panel.keys.append(NEW)
    panel.faults.append(ActiveFault(fault=fault, action="balance", count=1))
    assert "the old one stays" in shell.failure("keys", "rotate", smosale, stdin=NEW)
    assert stage.parts.vault.key(Account(smosale), fresh=True).value == panel_key(smosale)


def test_the_answer_for_people_names_no_key(shell: Shell, sandbox: Sandbox, smosale: str) -> None:
    sandbox.panels[smosale].keys.append(NEW)
    outcome = shell("keys", "rotate", smosale, stdin=NEW)
    assert outcome.code == 0
    assert "60 seconds" in outcome.out


def test_there_must_be_such_a_provider(shell: Shell) -> None:
    assert shell.failure("keys", "rotate", "nobody", stdin=NEW) == "There is no provider nobody."


def test_a_key_is_no_argument(shell: Shell, smosale: str) -> None:
    assert shell("keys", "rotate", smosale, "positional").code == 2
