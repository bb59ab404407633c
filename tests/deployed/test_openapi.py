"""The deployed API does what its own document says, whatever it is asked: schemathesis makes up the questions."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # it ships no types
from schemathesis import APIOperation, Case, CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chalicelib.api.openapi.cases import CASES
from chalicelib.api.openapi.document import document
from tests.deployed.conftest import Deployment, SandboxPanel
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
DOCUMENT = document()
PROVIDER = "smosale"
PAGE = "https://shop.example.com"
# Of each operation and mode, over all its actions: about a minute in all.
EXAMPLES = 60
FEW = 5
QUANTITY = 50
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
REQUESTS = {"/v2": "V2Request", "/v3": "V3Request"}
# These cannot be asked wrongly: with nothing, or with nothing but a header of free text.
FREE = {("/v3", "options"), ("/health", "get"), ("/openapi.json", "get")}


def _asked() -> Iterator[tuple[str, str, str | None, GenerationMode]]:
    """Yield what to make questions for: each action of each operation, asked rightly and wrongly."""
    for path, method in OPERATIONS:
        if (path, method) in FREE:
            yield path, method, None, GenerationMode.POSITIVE
        else:
            for action in DOCUMENT["components"]["schemas"][REQUESTS[path]]["discriminator"]["mapping"]:
                yield from ((path, method, action, mode) for mode in GenerationMode)


ASKED = list(_asked())
SECURITY: Mapping[str, Any] = {"generation": {"with-security-parameters": False}}  # the key is ours


def action_conformance(_ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Check that the answer is one to the action that was asked for; the document cannot tie them together."""
    asked = case.body if isinstance(case.body, dict) else dict(case.query or {})
    answer = response.json() if response.status_code in {200, 202} else {"error": ""}
    if isinstance(answer, dict) and "error" in answer:
        return
    version = case.operation.path.strip("/")
    answers = [getattr(known, version) for known in CASES if known.offered and known.action == asked.get("action")]
    shapes = [{"$ref": f"#/components/schemas/{answered.shape}"} for answered in answers if answered]
    validator = Draft202012Validator({"anyOf": shapes, "components": DOCUMENT["components"]})
    assert validator.is_valid(answer), "this is no answer to what was asked"


API_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def _narrow(told: dict[str, Any], request: str, action: str) -> None:
    """Leave one action in the document. Made up at random, most questions would be those that are easily made."""
    schema = told["components"]["schemas"][request]
    mapping = {action: schema["discriminator"]["mapping"][action]}
    schema |= {"oneOf": [{"$ref": mapping[action]}], "discriminator": {"propertyName": "action", "mapping": mapping}}
    [by_query] = [given for given in told["paths"]["/v2"]["get"]["parameters"] if given["name"] == "action"]
    by_query["schema"]["enum"] = [action]


@dataclass(frozen=True)
class Caller:
    """A rich tenant of a rich panel, and what it may name in its requests."""

    url: str
    key: str
    services: Mapping[str, int]
    order: int
    completed: int
    refill: int
    session: requests.Session

    def operation(self, path: str, method: str, action: str | None = None) -> APIOperation[Any, Any, Any, Any]:
        """Return an operation as the deployed document has it; with an action, as if there were no other."""
        told = httpx.get(f"{self.url}/openapi.json", timeout=30, trust_env=False).json()
        if action:
            _narrow(told, REQUESTS[path], action)
        schema = schemathesis.openapi.from_dict(told, config=SchemathesisConfig.from_dict(dict(SECURITY)))
        return schema[path][method.upper()]

    def ask(self, case: Case[Any]) -> Response:
        """Send a question and check the answer; a failure tells the curl that asks it again."""
        checks = [*API_CHECKS, action_conformance] if case.operation.path in {"/v2", "/v3"} else API_CHECKS
        headers = {"Authorization": f"Bearer {self.key}"}
        return case.call_and_validate(self.url, self.session, headers, checks, timeout=40)

    def make_real(self, fields: dict[str, Any]) -> None:
        """Put what exists into the place of what was made up, so that more than refusals is seen."""
        real = {
            "service": self.services[_kind(fields)],
            "services": [self.services["Default"]],
            "origin": PAGE,
            "link": link(),
            "quantity": QUANTITY,
            "comments": "\n".join("abcdefghij"),
            "order": self.completed if fields.get("action") == "refill" else self.order,
            "refill": self.refill,
            "key": self.key,
        }
        fields |= {name: value for name, value in real.items() if name in fields}


def _kind(fields: Mapping[str, Any]) -> str:
    """Return the type of service that an order with these fields fits best."""
    if "username" in fields:
        return "Subscriptions"
    if "comments" in fields:
        return "Custom Comments"
    if "quantity" in fields:
        return "drip-feed" if "runs" in fields else "Default"
    return "Package"


@pytest.fixture
def caller(deployment: Deployment, panels: Callable[[str], SandboxPanel]) -> Iterator[Caller]:
    panels(PROVIDER).fill(1_000_000)
    key = deployment.tenant(providers=frozenset({PROVIDER}), origins=frozenset({PAGE}))
    rows = deployment.v3(key, action="services").json()
    services = {row["type"]: row["service"] for row in reversed(rows)}
    services["drip-feed"] = next(row["service"] for row in rows if row["type"] == "Default" and row["dripfeed"])
    buy = {"service": services["Default"], "quantity": QUANTITY}
    order, target = deployment.v3(key, None, action="add", link=link(), **buy).json()["order"], link()
    completed = deployment.v3(key, None, action="add", link=target, **buy).json()["order"]
    panels(PROVIDER).move(target, "completed")
    refill = deployment.v3(key, action="refill", order=completed).json()["refill"]
    began = time.time_ns() // 1_000_000
    with requests.Session() as session:
        session.trust_env = False
        yield Caller(deployment.api_url, key, services, order, completed, refill, session)
    assert not _defects(deployment, began)


def _defects(deployment: Deployment, since: int) -> list[str]:
    """Return the log's lines about exceptions that nobody foresaw: v2 answers those with HTTP 200, too."""
    logs: Any = deployment.aws.session.client("logs", endpoint_url=deployment.aws.endpoint)
    group = f"/panelgate/{deployment.stage}/functions"
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
    return [event["message"] for page in pages for event in page["events"] if '"event": "defect"' in event["message"]]


def test_the_document_is_served_as_it_was_built(deployment: Deployment) -> None:
    url = f"{deployment.api_url}/openapi.json"
    reply = httpx.get(url, timeout=30, trust_env=False)
    assert reply.json() == json.loads(json.dumps(DOCUMENT))
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Request-Id"].startswith("req_")
    again = httpx.get(url, headers={"If-None-Match": reply.headers["ETag"]}, timeout=30, trust_env=False)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(("path", "method", "action", "mode"), ASKED)
def test_made_up_questions(caller: Caller, path: str, method: str, action: str | None, mode: GenerationMode) -> None:
    operation = caller.operation(path, method, action)

    @settings(
        max_examples=EXAMPLES // len({asked[2] for asked in ASKED if asked[:2] == (path, method)}) if action else FEW,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        print_blob=True,
        # Documents with many alternatives are slow to draw from, and some draws are no questions.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def ask(case: Case[Any], real: bool) -> None:  # noqa: FBT001 - hypothesis draws it
        for fields in (case.body, case.query):
            if real and isinstance(fields, dict):
                caller.make_real(fields)
        caller.ask(case)

    ask()


def _questions() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in ("/v2", "/v3"):
        for media_type, content in DOCUMENT["paths"][path]["post"]["requestBody"]["content"].items():
            for example in content["examples"].values():
                yield path, media_type, example["value"]


@pytest.mark.parametrize(("path", "media_type", "fields"), list(_questions()))
def test_the_documents_own_questions(caller: Caller, path: str, media_type: str, fields: dict[str, Any]) -> None:
    body = dict(fields)
    caller.make_real(body)
    response = caller.ask(caller.operation(path, "post").Case(body=body, media_type=media_type))
    assert response.status_code == 200, "what the document shows as good is good"


def test_a_preflight_is_granted_as_the_document_says(deployment: Deployment, caller: Caller) -> None:
    deployment.tenant(origins=frozenset({PAGE}))
    assert caller.ask(caller.operation("/v3", "options").Case(headers={"Origin": PAGE})).status_code == 204


def test_questions_by_query(caller: Caller) -> None:
    operation = caller.operation("/v2", "get")
    for query in ({"action": "balance"}, {"action": "services"}, {"action": "status", "order": caller.order}):
        answer = caller.ask(operation.Case(query=query)).json()
        assert "error" not in answer
