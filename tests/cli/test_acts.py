"""Every command that changes something is an act: recorded before it is done, or not done."""

import hashlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib.keys import new_client_key
from cli.acts import MAX_TEXT, Trace, redacted
from cli.console import Command, Console
from cli.main import panelgate
from sandbox.server import Sandbox
from tests.cli.conftest import AUDIT_LOG, Shell, panel_key

NEW_KEY = "canary-provider-key-9"
URL = "https://panel.example/api/v2"

# What each command that changes a stage is tried with. A new one that is not in here makes the tests below fail.
ACTS: dict[str, tuple[str, ...]] = {
    "audit accept": ("1",),
    "catalog sync": ("smosale",),
    "clients create": ("acme",),
    "clients revoke": ("CLIENT",),
    "clients rotate": ("CLIENT",),
    "keys rollback": ("smosale",),
    "keys rotate": ("smosale", "--watch", "0s"),
    "keys withdraw": ("smosale", "--tenant", "acme"),
    "orders resolve": ("acme", "1000001", "--not-placed"),
    "providers add": ("other", "--dialect", "perfectpanel", "--url", URL),
    "providers disable": ("smosale",),
    "providers enable": ("smosale",),
    "providers remove": ("smosale", "--yes"),
    "providers set": ("smosale", "--burst", "7"),
    "tenants create": ("beta",),
    "tenants resume": ("acme",),
    "tenants set": ("acme", "--rate", "7/s"),
    "tenants suspend": ("acme",),
    "wallet credit": ("acme", "5", "--reference", "r1"),
}
# They put the journal in place, and record themselves once there is one: tests/deployed/test_journal.py.
OWN = {"deploy", "local up"}
# What changes nothing of a stage. That is shown below, but for what a test cannot run.
READS: dict[str, tuple[str, ...]] = {
    "audit export": (),
    "audit verify": (),
    "catalog show": ("smosale",),
    "clients list": ("acme",),
    "keys history": ("smosale",),
    "orders list": (),
    "orders show": ("acme", "1000001"),
    "providers check": ("smosale",),
    "providers list": (),
    "providers show": ("smosale",),
    "tenants list": (),
    "tenants show": ("acme",),
    "wallet ledger": ("acme",),
    "wallet show": ("acme",),
}
# The local system's own processes and files, and the package's: no part of a stage.
APART = {"local down", "local status", "package"}


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, Command]]:
    """Yield every command of the parser that is no group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        whole = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, whole)
        else:
            assert isinstance(command, Command), whole
            yield whole, command


ALL = dict(commands(panelgate))


def of(trace: Trace) -> set[str]:
    return {name for name, command in ALL.items() if command.trace is trace}


def test_every_command_is_an_act_or_known_to_change_nothing() -> None:
    assert of(Trace.ACT) == set(ACTS)
    assert of(Trace.OWN) == OWN
    assert of(Trace.NONE) == set(READS) | APART


@pytest.fixture
def client(shell: Shell, smosale: str, acme: str) -> str:
    """Return the id of a client, in a stage with something of everything."""
    del smosale
    shell.ok("wallet", "credit", acme, "50", "--reference", "start")
    return str(shell.ok("clients", "create", acme)["client"])


def line(name: str, client: str) -> list[str]:
    arguments = (ACTS | READS)[name]
    return [*name.split(), *(client if one == "CLIENT" else one for one in arguments)]


def everything(stage: Console) -> Any:
    """Return all that a command could change: the table without the journal and the providers' pace, the secrets."""
    dynamodb = stage.aws.session.client("dynamodb", endpoint_url=stage.aws.endpoint)
    secrets = stage.aws.session.client("secretsmanager", endpoint_url=stage.aws.endpoint)
    items = dynamodb.scan(TableName=stage.parts.settings.table)["Items"]
    kept = [item for item in items if item["pk"]["S"] != "AUDIT" and item["sk"]["S"] != "PACE"]
    described = secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]
    return (
        sorted(kept, key=lambda item: (item["pk"]["S"], item["sk"]["S"])),
        sorted((one["Name"], str(one.get("SecretVersionsToStages")), str(one.get("DeletedDate"))) for one in described),
    )


def refuses(**_: object) -> NoReturn:
    said: Any = {
        "Error": {"Code": "AccessDeniedException", "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    raise ClientError(said, "this")


def is_cut_off(**_: object) -> NoReturn:
    raise EndpointConnectionError(endpoint_url="https://logs.example")


def keeps_nothing(**_: object) -> object:
    reply = AWSResponse("https://logs.example", 200, HTTPHeaders(), None)
    return reply, {"rejectedLogEventsInfo": {"tooNewLogEventStartIndex": 0}}


ANCHOR = "cloudwatch-logs.PutLogEvents"
# What keeps an act from being recorded: a call to AWS, and what becomes of it.
HINDRANCES: dict[str, tuple[str, Callable[..., Any]]] = {
    "the log group takes nothing": ("cloudwatch-logs.CreateLogStream", refuses),
    "the anchor is refused": (ANCHOR, refuses),
    "the anchor does not arrive": (ANCHOR, is_cut_off),
    "the anchor is not kept": (ANCHOR, keeps_nothing),
    "the record is refused": ("dynamodb.TransactWriteItems", refuses),
}


@contextmanager
def intercepted(stage: Console, call: str, instead: Callable[..., Any]) -> Iterator[None]:
    """Put something in the place of a call to AWS, in all commands that begin meanwhile."""
    events = stage.aws.session.events
    events.register(f"before-call.{call}", instead)
    try:
        yield
    finally:
        events.unregister(f"before-call.{call}", instead)


@pytest.mark.parametrize("name", ACTS)
def test_what_cannot_be_recorded_is_not_done(
    shell: Shell, stage: Console, sandbox: Sandbox, client: str, name: str
) -> None:
    before, asked = everything(stage), len(sandbox.panels["smosale"].journal.entries)
    for hindrance, (call, instead) in HINDRANCES.items():
        with intercepted(stage, call, instead):
            error = shell.failure(*line(name, client), stdin=f"{NEW_KEY}\n")
        assert error.startswith("Nothing was done, for it could not be recorded."), hindrance
        assert everything(stage) == before, hindrance
        assert len(sandbox.panels["smosale"].journal.entries) == asked, hindrance


def test_before_the_stage_has_a_journal_nothing_is_done(shell: Shell, stage: Console) -> None:
    logs: Any = stage.aws.session.client("logs", endpoint_url=stage.aws.endpoint)
    logs.delete_log_group(logGroupName=AUDIT_LOG)
    before = everything(stage)
    error = shell.failure("tenants", "create", "acme")
    assert error.startswith("Nothing was done, for it could not be recorded.")
    assert "`panelgate deploy` does it" in error
    assert everything(stage) == before


def breaks(**_: object) -> NoReturn:
    raise OSError("the disk is full")


@pytest.mark.parametrize("instead", [refuses, is_cut_off, keeps_nothing, breaks])
def test_an_outcome_that_cannot_be_recorded_is_told_only(
    shell: Shell, stage: Console, instead: Callable[..., Any]
) -> None:
    """What it tells of is done."""
    calls = itertools.count()
    with intercepted(stage, ANCHOR, lambda **given: instead(**given) if next(calls) else None):
        told = shell("tenants", "create", "acme", "--json")
    assert (told.code, told.document["tenant"]) == (0, "acme")
    assert re.fullmatch(r"The outcome of tenants create could not be recorded \(\w+\)\.\n", told.err)
    assert [one.id for one in stage.registry.tenants()] == ["acme"]


@pytest.mark.parametrize("name", ACTS)
def test_an_act_stands_in_the_journal_with_its_outcome(shell: Shell, client: str, name: str) -> None:
    outcome = shell(*line(name, client), stdin=f"{NEW_KEY}\n")
    [act] = shell.ok("audit")["acts"][4:]
    assert act["act"] == name
    assert act["outcome"] == ("done" if outcome.code == 0 else "failed")
    assert act["who"]["arn"].startswith("arn:aws:")
    assert act["from"]["host"]
    assert act["from"]["address"] == "127.0.0.1"
    assert shell.ok("audit", "verify")["journal"]["records"] == 10


@pytest.mark.parametrize("name", READS)
def test_what_is_no_act_changes_nothing(shell: Shell, stage: Console, client: str, name: str) -> None:
    before = everything(stage), stage.journal.head()
    shell(*line(name, client))
    assert (everything(stage), stage.journal.head()) == before


# -- what a record holds -----------------------------------------------------------------------------------------------


def acts(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shell.ok("audit", *arguments)["acts"]
    return found


def test_a_failure_stands_there_with_its_reason(shell: Shell, acme: str) -> None:
    shell.failure("tenants", "create", acme)
    [_, act] = acts(shell)
    assert (act["outcome"], act["reason"]) == ("failed", "there is a tenant acme already")
    shell.misuse("tenants", "set", acme)
    assert acts(shell)[2]["outcome"] == "failed"


def test_wrong_use_is_no_act(shell: Shell) -> None:
    shell.misuse("tenants", "create")
    shell("tenants", "create", "--help")
    assert acts(shell) == []


def test_acts_are_found_by_tenant_and_time(shell: Shell, client: str) -> None:
    shell.ok("tenants", "create", "beta")
    shell.ok("clients", "rotate", client)
    assert [one["act"] for one in acts(shell, "--tenant", "acme")] == [
        "tenants create",
        "wallet credit",
        "clients create",
        "clients rotate",
    ]
    assert [one["act"] for one in acts(shell, "--tenant", "beta")] == ["tenants create"]
    assert len(acts(shell, "--since", "1h")) == 6
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert acts(shell, "--since", later) == []
    assert len(acts(shell, "--since", "2020-01-01")) == 6
    assert shell.failure("audit", "--tenant", "nobody") == "There is no tenant nobody."


def test_an_act_is_found_by_its_time_though_its_machines_clock_is_wrong(shell: Shell, stage: Console) -> None:
    def act(hour: int) -> int:
        at = {"at": f"2026-03-01T{hour:02}:00:00.000Z"}
        known = {"tenant": None, "arguments": {}, "who": {"arn": "a"}, "from": {"host": "h"}}
        return stage.journal.append({"kind": "act", "act": "x", **known, **at}).number

    def end(of: int, hour: int) -> None:
        at = {"at": f"2026-03-01T{hour:02}:00:00.000Z"}
        stage.journal.append({"kind": "outcome", "of": of, "outcome": "done", "facts": {}, **at})

    long, early = act(8), act(9)
    end(early, 10)
    behind = act(4)  # after 10 o'clock, as the journal's order says
    end(behind, 4)
    end(long, 12)
    ahead = act(23)
    end(ahead, 23)
    last = act(13)
    since = [
        (hour, [one["record"] for one in acts(shell, "--since", f"2026-03-01T{hour:02}:00")]) for hour in (7, 10, 11)
    ]
    assert since == [
        (7, [long, early, behind, ahead, last]),
        (10, [long, early, behind, ahead, last]),
        (11, [long, ahead, last]),
    ]


def test_what_was_typed_and_what_was_not_stand_there(shell: Shell, client: str) -> None:
    shell.ok("clients", "rotate", client)
    shell.ok("clients", "create", "acme", "--allow-ip", "10.0.0.0/8", "--allow-ip", "10.1.0.0/16", "--actions", "add")
    shell.ok("providers", "set", "smosale", "--rate", "30/m", "--no-exclusive-key")
    rotated, created, changed = (act["arguments"] for act in acts(shell)[4:])
    assert rotated == {"client": client, "overlap": "24h"}
    assert created["allow_ip"] == ["10.0.0.0/8", "10.1.0.0/16"]
    assert created["actions"] == "add"
    assert changed == {"provider": "smosale", "interval": "30/m", "exclusive_key": False}


def test_facts_of_what_became_of_it_stand_there(shell: Shell, smosale: str, acme: str) -> None:
    del smosale
    for _ in range(2):
        shell.ok("wallet", "credit", acme, "5", "--reference", "r")
    assert [act["facts"] for act in acts(shell)] == [{"number": 1}, {}, {"repeated": False}, {"repeated": True}]


def test_for_people(shell: Shell, acme: str) -> None:
    shell.ok("wallet", "credit", acme, "5", "--reference", "invoice 1")
    told = shell("audit").out.splitlines()
    assert told[0].split() == ["record", "at", "act", "arguments", "who", "from", "outcome"]
    assert "wallet credit" in told[2]
    assert "tenant=acme amount=5 reference=invoice 1" in told[2]
    assert told[2].endswith("done")


def test_no_secret_gets_into_the_journal(shell: Shell, sandbox: Sandbox, client: str) -> None:
    sandbox.panels["smosale"].keys.append(NEW_KEY)
    shell.ok("keys", "rotate", "smosale", "--watch", "0s", stdin=f"{NEW_KEY}\n")
    shell.ok("clients", "rotate", client)
    key_id = shell.ok("clients", "list", "acme")["clients"][0]["keys"][-1]
    assert acts(shell)[-1]["facts"] == {"client": client, "key_id": key_id}
    key = new_client_key("acme")
    shell.failure("clients", "revoke", key)  # where its id belongs
    shell("clients", "create", "acme", "--name", f"the one with {key}")
    for url in (f"https://me:{NEW_KEY}@panel.example/api", f"https://panel.example/api?key={NEW_KEY}#{NEW_KEY}"):
        shell("providers", "add", "other", "--dialect", "perfectpanel", "--url", url)
    journal = shell("audit", "export").out + shell("audit").out
    assert "providers add" in journal
    for secret in (NEW_KEY, panel_key("smosale"), key, key.rpartition("_")[2]):
        assert secret not in journal


@pytest.mark.parametrize("key", ["4f9c2a77b1d84e0f93c5a6e7d8f90b12", "sk4Live9TzQwErTyUiOpAsDfGh"])
def test_a_key_that_is_typed_where_a_name_belongs_is_not_kept(shell: Shell, acme: str, key: str) -> None:
    """Nobody has told the guard of it yet."""
    shell.secrets.add(key)
    lines: tuple[tuple[str, ...], ...] = (
        ("keys", "rotate", key),
        ("keys", "rotate", "smosale", "--token", key),
        ("keys", "history", key),
        ("keys", "rotate", f"smosale{key}", "--tenant", acme),
        ("providers", "add", "other", "--dialect", key, "--url", URL),
        ("providers", "add", "other", "--dialect", "perfectpanel", "--url", f"https://{key}.example/{key}"),
        (key,),
    )
    for typed in lines:
        shell(*typed)
        shell(*typed, "--json")
    shell("audit")
    shell("audit", "export")


def test_long_names_and_references_are_kept_and_can_be_asked_for(shell: Shell, smosale: str) -> None:
    name, reference = "4f9c2a77b1d84e0f93c5a6e7d8f90b12", "pi_3MtwBwLkdIwHu7ix28a3tqPa"
    shell.ok("tenants", "create", name)
    shell.ok("wallet", "credit", name, "5", "--reference", reference)
    shell.failure("keys", "rotate", smosale, "--tenant", name, stdin="no-key-of-the-panel\n")
    told = shell.ok("audit", "--tenant", name)["acts"]
    assert [act["act"] for act in told] == ["tenants create", "wallet credit", "keys rotate"]
    assert told[1]["arguments"]["reference"] == reference


def test_a_token_that_was_typed_is_kept(shell: Shell, smosale: str) -> None:
    token = "9b1c3b9e-0000-4000-8000-00000000000a"
    shell("keys", "rotate", smosale, "--token", token, "--watch", "0s", stdin="\n")
    assert acts(shell)[1]["arguments"]["token"] == token


@pytest.mark.parametrize(
    "typed", [("clients", "revoke", "acme.\udcff"), ("\udcff",), ("providers", "add", "x", "--url", "https://\udcff")]
)
def test_what_is_no_text_is_wrong_use(shell: Shell, typed: tuple[str, ...]) -> None:
    """The shell gave bytes that are not UTF-8."""
    assert shell.misuse(*typed) == "The arguments must be UTF-8."
    assert acts(shell) == []


def test_what_a_record_keeps_of_an_argument() -> None:
    assert redacted({"a": (1, None, True), "b": {"c": frozenset({"x"})}}) == {"a": [1, None, True], "b": {"c": ["x"]}}
    assert redacted("https://u:p@host/path?key=1#k") == "https://[redacted]host/path?[redacted]"
    assert (
        redacted("see https://host/#k and http://me@host") == "see https://host/#[redacted] and http://[redacted]host"
    )
    for harmless in ("INV#2026-117", "paid? yes, #7", "https://host/path", "a@b.example"):
        assert redacted(harmless) == harmless
    assert redacted("mine is pg_live_acme_x, and pgb_y") == "mine is [redacted], and [redacted]"
    assert redacted("x" * 5000) == "x" * MAX_TEXT + "…"


def test_export_lets_anybody_recompute_the_chain(shell: Shell, client: str) -> None:
    del client
    previous = None
    lines = [json.loads(text) for text in shell("audit", "export").out.splitlines()]
    assert [one["number"] for one in lines] == list(range(1, 9))
    for one in lines:
        assert hashlib.sha256(one["text"].encode()).hexdigest() == one["hash"]
        if previous is not None:
            assert json.loads(one["text"])["previous"] == previous
        previous = one["hash"]
    assert shell.ok("audit", "export") == {"records": lines}


# -- a run that ends in the middle -------------------------------------------------------------------------------------


def test_a_killed_run_leaves_an_act_without_an_outcome(installed: dict[str, str]) -> None:
    """It is killed where it waits for the key: recorded, and nothing done."""
    program = str(Path(sys.executable).with_name("panelgate"))

    def audit(*arguments: str) -> Any:
        command = [program, "audit", *arguments, "--json"]
        told = subprocess.run(command, env=installed, capture_output=True, check=True, timeout=60)  # noqa: S603 - ours
        return json.loads(told.stdout)

    waiting = subprocess.Popen(  # noqa: S603 - ours
        [program, "providers", "add", "other", "--dialect", "perfectpanel", "--url", URL],
        env=installed,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 60
        while not audit()["acts"]:
            assert time.monotonic() < end
    finally:
        waiting.kill()
        waiting.communicate()
    [act] = audit()["acts"]
    assert (act["act"], act["outcome"]) == ("providers add", None)
    assert audit("verify")["journal"]["records"] == 1
