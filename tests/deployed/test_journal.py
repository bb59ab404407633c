"""The journal of a deployed system: the commands as an operator runs them, and somebody who changes what they left."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws.table import Item, Table
from cli.chain import Head, Record, sort_key
from cli.system import LocalSystem
from tests.deployed.conftest import Deployment
from tests.deployed.test_policies import _denied, _role_client

pytestmark = pytest.mark.deployed
PANELGATE = str(Path(sys.executable).with_name("panelgate"))


@dataclass(frozen=True)
class Operator:
    """Somebody with the command line."""

    environment: dict[str, str]

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        return subprocess.Popen(  # noqa: S603 - ours
            [PANELGATE, *arguments, "--json"],
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        return json.loads(out)

    def acts(self, tenant: str) -> list[tuple[str, str]]:
        return [(act["act"], act["outcome"]) for act in self("audit", "--tenant", tenant)["acts"]]


@pytest.fixture
def operator(deployment: Deployment) -> Operator:
    folder = {"PANELGATE_LOCAL_DIR": str(deployment.local.folder)} if deployment.local else {}
    return Operator({**os.environ, "PANELGATE_STAGE": deployment.stage, **folder})


@pytest.fixture
def acme(deployment: Deployment, operator: Operator) -> str:
    """Return a tenant that an operator made, and about whom three things were done."""
    name = f"test-{os.urandom(6).hex()}"
    operator("tenants", "create", name)
    deployment.made.append(name)
    operator("wallet", "credit", name, "5", "--reference", "r")
    operator("clients", "create", name)
    return name


def test_acts_are_recorded_and_the_journal_is_right(operator: Operator, acme: str) -> None:
    operator("wallet", "credit", acme, "7", "--reference", "r", code=1)
    assert operator.acts(acme) == [
        ("tenants create", "done"),
        ("wallet credit", "done"),
        ("clients create", "done"),
        ("wallet credit", "failed"),
    ]
    assert operator("audit", "verify", "--tenant", acme)["journal"]["records"] >= 8


def test_operators_at_the_same_time_write_one_chain(operator: Operator, acme: str) -> None:
    """Each in a process of its own."""
    for _ in range(2):
        running = [operator.start("wallet", "credit", acme, "1", "--reference", f"{n}") for n in range(4)]
        for process in running:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    assert operator.acts(acme)[3:] == [("wallet credit", "done")] * 8
    operator("audit", "verify", "--tenant", acme)


def test_a_deployment_is_an_act(operator: Operator, local: LocalSystem) -> None:
    assert local.status()
    before = operator("audit", "verify")["journal"]["records"]
    operator("deploy")
    act = operator("audit")["acts"][-1]
    assert (act["act"], act["outcome"], act["record"]) == ("deploy", "done", before + 1)
    assert act["facts"]["package"].endswith(".zip")


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("function", ["apihandler", "synccatalogs", "sweeporders", "settleorders"])
def test_no_lambda_touches_the_anchors(deployment: Deployment, function: str) -> None:
    logs, group = _role_client(deployment, function, "logs"), f"/panelgate/{deployment.stage}/audit"
    assert _denied(logs.create_log_stream, logGroupName=group, logStreamName="x")
    assert _denied(logs.delete_log_stream, logGroupName=group, logStreamName="chain")
    assert _denied(logs.delete_log_group, logGroupName=group)
    event = {"timestamp": deployment.parts.clock.now() // 1000, "message": "x"}
    assert _denied(logs.put_log_events, logGroupName=group, logStreamName="chain", logEvents=[event])


# -- somebody who can write the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Intruder:
    """Changes the journal in the table, up to its head, and puts it back."""

    table: Table

    def items(self) -> list[Item]:
        return list(self.table.query("AUDIT"))

    def records(self) -> list[Item]:
        return list(self.table.query("AUDIT", "RECORD#"))

    def restore(self, before: list[Item]) -> None:
        self.table.delete_many([(item["pk"], item["sk"]) for item in self.items()])
        self.table.put_many(before)

    def put(self, *records: Record) -> None:
        self.table.put_many(
            [{"pk": "AUDIT", "sk": sort_key(one.number), "text": one.text, "hash": one.hash} for one in records]
        )
        last = max(records, key=lambda one: one.number)
        self.table.put_many([{"pk": "AUDIT", "sk": "HEAD", "number": last.number, "hash": last.hash}])

    def chain(self, head: Head, count: int) -> list[Record]:
        made: list[Record] = []
        for _ in range(count):
            made.append(Record.after(made[-1].head if made else head, {"kind": "act", "act": "nothing"}))
        return made


@pytest.fixture
def intruder(deployment: Deployment, local: LocalSystem, acme: str) -> Iterator[Intruder]:
    """Return who changes the journal of a system of our own; nobody does that to the journal of an account."""
    del local, acme
    intruder = Intruder(deployment.parts.table)
    before = intruder.items()
    yield intruder
    intruder.restore(before)


def edit(intruder: Intruder) -> int:
    item = intruder.records()[2]
    earlier = item["text"].replace('"at": "20', '"at": "19')  # which act it is depends on the tests before
    assert earlier != item["text"]
    intruder.table.put_many([{**item, "text": earlier}])
    return 3


def edit_with_its_hash(intruder: Intruder) -> int:
    second, *_, last = intruder.records()[1:]
    forged = Record.after(Head(2, second["hash"]), {"kind": "act", "act": "nothing"})
    intruder.put(forged)
    intruder.table.put_many(
        [{"pk": "AUDIT", "sk": "HEAD", "number": int(last["sk"].removeprefix("RECORD#")), "hash": last["hash"]}]
    )
    return 3


def delete(intruder: Intruder) -> int:
    intruder.table.delete_many([("AUDIT", sort_key(4))])
    return 4


def reorder(intruder: Intruder) -> int:
    second, third = intruder.records()[1:3]
    intruder.table.put_many([{**second, "sk": third["sk"]}, {**third, "sk": second["sk"]}])
    return 2


def truncate(intruder: Intruder) -> int:
    *_, last, first_dropped, dropped = intruder.records()
    number = int(last["sk"].removeprefix("RECORD#"))
    intruder.table.delete_many([("AUDIT", item["sk"]) for item in (first_dropped, dropped)])
    intruder.table.put_many([{"pk": "AUDIT", "sk": "HEAD", "number": number, "hash": last["hash"]}])
    return number + 1


def fork(intruder: Intruder) -> int:
    records = intruder.records()
    intruder.put(*intruder.chain(Head(4, records[3]["hash"]), len(records)))
    return 5


def rewrite_everything(intruder: Intruder) -> int:
    intruder.put(*intruder.chain(Head.of_empty("local"), len(intruder.records())))
    return 1


TAMPERS = (edit, edit_with_its_hash, delete, reorder, truncate, fork, rewrite_everything)


@pytest.mark.parametrize("tamper", TAMPERS)
def test_tampering_is_named(
    operator: Operator, intruder: Intruder, acme: str, tamper: Callable[[Intruder], int]
) -> None:
    """The journal is one for all; the money of the tenants that other tests left is not looked at."""
    before = intruder.items()
    number = tamper(intruder)
    error = operator("audit", "verify", "--tenant", acme, code=1)["error"]
    assert error.startswith(f"AUDIT {sort_key(number)}: ")
    intruder.restore(before)
    operator("audit", "verify", "--tenant", acme)
