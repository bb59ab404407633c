"""The command line against an emulated AWS and the sandbox panels; nothing that it prints may hold a key."""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import simplejson

from chalicelib.model import Account
from cli.console import Aws, Console, run
from cli.main import panelgate
from sandbox.panel import Customer
from sandbox.server import Sandbox
from tests.conftest import aws_client, empty_table

STAGE = "local"
AUDIT_LOG = f"/panelgate/{STAGE}/audit"
CLIENT_KEY = re.compile(r"pg_(?:live|test)_[A-Za-z0-9_-]+")


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return simplejson.loads(self.out, use_decimal=True)

    @property
    def error(self) -> str:
        document = json.loads(self.out)
        assert list(document) == ["error"]
        return str(document["error"])


@dataclass
class Shell:
    """Runs command lines in this process, and keeps all that they said."""

    said: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def __call__(self, *arguments: str, stdin: str = "") -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        if stdin.strip():
            self.secrets.add(stdin.strip())
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            code = run(panelgate, arguments)
        self.said += [out.getvalue(), err.getvalue()]
        return Outcome(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: str, stdin: str = "") -> Any:
        """Run a command with --json that must succeed, and return its document."""
        outcome = self(*arguments, "--json", stdin=stdin)
        assert outcome.code == 0, outcome
        return outcome.document

    def failure(self, *arguments: str, stdin: str = "") -> str:
        """Run a command with --json that must fail, and return its error."""
        outcome = self(*arguments, "--json", stdin=stdin)
        assert outcome.code == 1, outcome
        return outcome.error

    def misuse(self, *arguments: str, stdin: str = "") -> str:
        """Run a command with --json that must be refused as wrong use, and return its error."""
        outcome = self(*arguments, "--json", stdin=stdin)
        assert outcome.code == 2, outcome
        return outcome.error

    def check_silence(self) -> None:
        """No provider key was ever said; no client key was said twice."""
        everything = "\n".join(self.said)
        assert not [secret for secret in self.secrets if secret in everything]
        keys = CLIENT_KEY.findall(everything)
        assert len(keys) == len(set(keys))


@pytest.fixture(scope="session")
def aws(emulator: str) -> Aws:
    """Return the emulated AWS; its session reads the descriptions of the services once."""
    return Aws.emulated(emulator)


@pytest.fixture
def stage(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """Return the operator's side of an empty local stage."""
    dynamodb = aws.session.client("dynamodb", endpoint_url=aws.endpoint)
    secrets = aws.session.client("secretsmanager", endpoint_url=aws.endpoint)
    logs = aws.session.client("logs", endpoint_url=aws.endpoint)
    logs.create_log_group(logGroupName=AUDIT_LOG)
    monkeypatch.setattr(Console, "aws", property(lambda _console: aws))
    monkeypatch.setenv("PANELGATE_STAGE", STAGE)
    with empty_table(STAGE, dynamodb):
        yield Console()
    with contextlib.suppress(logs.exceptions.ResourceNotFoundException):  # a test may have taken it away
        logs.delete_log_group(logGroupName=AUDIT_LOG)
    for secret in secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        if secret["Name"].startswith(f"panelgate/{STAGE}/"):
            secrets.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)


@pytest.fixture
def installed(emulator: str, new_stage: Callable[[], str]) -> Iterator[dict[str, str]]:
    """Return the environment in which the program itself works on an empty stage, as in an operator's account."""
    stage, logs = new_stage(), aws_client("logs", emulator)
    audit_log = f"/panelgate/{stage}/audit"
    logs.create_log_group(logGroupName=audit_log)
    yield {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": emulator,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PANELGATE_STAGE": stage,
    }
    logs.delete_log_group(logGroupName=audit_log)


@pytest.fixture
def shell(stage: Console) -> Iterator[Shell]:
    del stage
    shell = Shell()
    yield shell
    shell.check_silence()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def panel_key(slug: str) -> str:
    return f"sandbox-{slug}-key"


def give_own_key(stage: Console, sandbox: Sandbox, slug: str, tenant: str) -> str:
    """Have a tenant's orders at a panel bought with a key of its own, and return that."""
    key, account, parts = f"own-key-of-{tenant}", Account(slug, tenant), stage.parts
    sandbox.panels[slug].customers[tenant] = Customer([key], Decimal(50))
    parts.vault.promote(account, parts.vault.store_pending(account, key, token="1" * 32).version)
    stage.registry.set_own_key(tenant, slug, is_used=True)
    return key


@pytest.fixture
def smosale(shell: Shell, sandbox: Sandbox) -> str:
    """Return the slug of a provider that was added."""
    url = f"{sandbox.url}/smosale/api/v2"
    arguments = ("providers", "add", "smosale", "--dialect", "perfectpanel", "--url", url)
    shell.ok(*arguments, stdin=panel_key("smosale") + "\n")
    return "smosale"


@pytest.fixture
def acme(shell: Shell) -> str:
    """Return the id of a tenant that was created."""
    shell.ok("tenants", "create", "acme")
    return "acme"


def amount(text: str) -> Decimal:
    return Decimal(text)
