"""The emulated AWS is as strict as AWS where our promises lean on it, shown by a small function of this test's own."""

import inspect
import io
import json
import secrets
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cli.system import LocalSystem
from tests.deployed import guest
from tests.deployed.conftest import Deployment

pytestmark = pytest.mark.deployed
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_REPLY_BYTES = 6_291_556
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


@dataclass(frozen=True)
class Guest:
    """The function, deployed."""

    name: str
    functions: Any
    iam: Any

    def invoke(self, action: str, **event: Any) -> Any:
        """Return what it answers; the test fails if it does."""
        reply = self.functions.invoke(FunctionName=self.name, Payload=json.dumps({"action": action, **event}).encode())
        payload = reply["Payload"].read()
        assert "FunctionError" not in reply, payload[:2000]
        return json.loads(payload)

    def error(self, action: str, **event: Any) -> str:
        """Return how it fails."""
        reply = self.functions.invoke(FunctionName=self.name, Payload=json.dumps({"action": action, **event}).encode())
        assert reply.get("FunctionError"), "it did not fail"
        return str(json.loads(reply["Payload"].read())["errorMessage"])

    def allow(self, *actions: str) -> None:
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.iam.put_role_policy(RoleName=self.name, PolicyName="given", PolicyDocument=policy)


def _archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("guest.py", inspect.getsource(guest))
    return packed.getvalue()


@pytest.fixture(scope="module")
def function(deployment: Deployment) -> Iterator[Guest]:
    if deployment.local is None:
        pytest.skip("AWS is as strict as AWS")
    session, endpoint = deployment.aws.session, deployment.aws.endpoint
    functions: Any = session.client("lambda", endpoint_url=endpoint)
    iam: Any = session.client("iam", endpoint_url=endpoint)
    name = f"guest-{secrets.token_hex(4)}"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    functions.create_function(
        FunctionName=name,
        Runtime=f"python{guest.VERSION}",
        Role=role,
        Handler="guest.handle",
        Code={"ZipFile": _archive()},
        Timeout=20,
        MemorySize=512,
    )
    try:
        yield Guest(name, functions, iam)
    finally:
        functions.delete_function(FunctionName=name)
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        iam.delete_role(RoleName=name)


def test_nothing_runs_on_after_the_answer(function: Guest) -> None:
    started = function.invoke("start a thread")
    time.sleep(1.5)
    later = function.invoke("ticks")
    assert later["process"] == started["process"], "not the same container: this shows nothing"
    # It ticks every 10 ms while it runs: between answer and invocation there is room for none, but for a few around.
    assert later["ticks"] - started["ticks"] < 30

    busy = function.invoke("work", seconds=0.5)
    assert busy["process"] == started["process"]
    assert busy["ticks"] - later["ticks"] >= 10, "the thread does not run at all: this shows nothing"


def test_a_reply_of_6_mb_passes_and_a_larger_one_fails(function: Guest) -> None:
    quotes = 2
    assert len(function.invoke("say", characters=MAX_REPLY_BYTES - quotes)) == MAX_REPLY_BYTES - quotes
    assert str(MAX_REPLY_BYTES) in function.error("say", characters=MAX_REPLY_BYTES - quotes + 1)


def test_a_function_may_do_what_its_role_allows_and_nothing_else(function: Guest) -> None:
    assert "AccessDenied" in function.error("read", table="panelgate-local")
    function.allow("dynamodb:GetItem")
    assert function.invoke("read", table="panelgate-local") == {"found": False}
    assert "AccessDenied" in function.error("write", table="panelgate-local")


def test_an_unhandled_exception_is_a_failure(function: Guest, local: LocalSystem) -> None:
    assert function.error("no such thing") == "no such thing"
    assert function.invoke("ticks")["process"], local.last_lines("emulator")
