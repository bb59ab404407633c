"""What all commands share: where options may stand, exit codes, the shape of failures, the real program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

POSITIONS = [
    ("--json", "--stage", "local", "tenants", "list"),
    ("tenants", "--json", "--stage", "local", "list"),
    ("tenants", "list", "--stage", "local", "--json"),
    ("--stage", "local", "tenants", "list", "--json"),
]


@pytest.mark.parametrize("arguments", POSITIONS)
def test_global_options_stand_anywhere(
    shell: Shell, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PANELGATE_STAGE")
    outcome = shell(*arguments)
    assert (outcome.code, outcome.document) == (0, {"tenants": []})
    assert outcome.err == ""


def test_a_stage_that_is_not_deployed(shell: Shell) -> None:
    assert "panelgate deploy" in shell.failure("--stage", "nowhere", "tenants", "list")


@pytest.mark.parametrize(
    "arguments",
    [
        "providers",
        "providers add",
        "providers set",
        "keys rotate",
        "tenants create",
        "clients create",
        "wallet credit",
        "catalog sync",
        "orders show",
    ],
)
def test_help(shell: Shell, arguments: str) -> None:
    outcome = shell(*arguments.split(), "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


@pytest.mark.parametrize(
    "arguments",
    [
        "providers fly",
        "tenants show",
        "tenants show acme --fast",
        "wallet show a b",
        "keys revoke smosale",
        "orders show acme x",
    ],
)
def test_wrong_use_exits_with_2(shell: Shell, arguments: str) -> None:
    assert shell.misuse(*arguments.split())
    outcome = shell(*arguments.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err


@pytest.mark.parametrize("stage", ["", "Bad Stage", "9lives", "a" * 22, "x/y"])
def test_what_is_no_stage(shell: Shell, stage: str) -> None:
    assert "lower-case" in shell.misuse("--stage", stage, "tenants", "list")


def test_superfluous_arguments_are_not_repeated(shell: Shell) -> None:
    """A key that was given as an argument is in the shell's history already; it must not be in a log, too."""
    for arguments in ("keys rotate smosale S3CRET", "tenants list S3CRET", "providers add p S3CRET --dialect x"):
        shell.misuse(*arguments.split())
        outcome = shell(*arguments.split())
        assert outcome.code == 2
    assert "S3CRET" not in "".join(shell.said)


def test_an_unconfigured_aws_is_told_at_once() -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true"}
    program = [str(Path(sys.executable).with_name("panelgate")), "tenants", "list", "--json"]

    def error(**more: str) -> str:
        told = subprocess.run(  # noqa: S603
            program, env=environment | more, capture_output=True, text=True, check=False, timeout=60
        )
        assert told.returncode == 1
        return str(json.loads(told.stdout)["error"])

    assert "no region and no credentials" in error()
    assert "no credentials" in error(AWS_DEFAULT_REGION="us-east-1")
    assert "--stage local" in error()


def test_the_program_itself(installed: dict[str, str]) -> None:
    """Over the ordinary configuration of AWS, as in an operator's account."""

    def panelgate(*arguments: str) -> "subprocess.CompletedProcess[str]":
        program = Path(sys.executable).with_name("panelgate")
        return subprocess.run(  # noqa: S603
            [program, *arguments], env=installed, input="", capture_output=True, text=True, check=False, timeout=60
        )

    created = panelgate("tenants", "create", "acme", "--json")
    assert (created.returncode, created.stderr) == (0, "")
    client = json.loads(panelgate("clients", "create", "acme", "--json").stdout)
    assert set(client) == {"client", "key"}
    twice = panelgate("tenants", "create", "acme", "--json")
    assert (twice.returncode, json.loads(twice.stdout)) == (1, {"error": "There is a tenant acme already."})
    assert panelgate("tenants", "create").returncode == 2
