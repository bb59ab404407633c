"""The document that the API serves of itself: valid, complete, and true of the code."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from chalice.app import Chalice
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # it ships no types
from openapi_spec_validator import OpenAPIV31SpecValidator

from chalicelib.actions import Action
from chalicelib.api.openapi import serve_document
from chalicelib.api.openapi.cases import CASES
from chalicelib.api.openapi.requests import request_name
from chalicelib.api.reading import Incoming
from chalicelib.commands import COMMANDS, read_command
from chalicelib.errors import Code, Refusal
from chalicelib.model import Tenant
from tests.api.http import Answered, v2, v3
from tests.conftest import ROOT
from tests.world import LINK, World, buys_and_loses_the_answer, cannot_be_reached

# The importer that Postman itself uses.
POSTMAN = "openapi-to-postmanv2@6.3.3"
METHODS = {"get", "post", "options"}
PROTOCOL = {"balance", "services", "add", "status", "refill", "refill_status", "cancel"}


def ask(**headers: str) -> Incoming:
    return Incoming("GET", headers, (), b"", "203.0.113.7", 0, 0)


DOCUMENT: dict[str, Any] = json.loads(serve_document(ask()).body)
PATHS: dict[str, Any] = DOCUMENT["paths"]
OPERATIONS = {(path, method): PATHS[path][method] for path in PATHS for method in PATHS[path]}


def valid(schema: Mapping[str, Any], value: Any) -> bool:
    """Say whether a value is what a schema of the document asks for."""
    return bool(_validator(schema).is_valid(value))


def _validator(schema: Mapping[str, Any]) -> Any:
    return Draft202012Validator({"allOf": [schema], "components": DOCUMENT["components"]})


def component(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


# -- the document by itself ------------------------------------------------------------------------------------------


def test_it_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert not [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in the document, but none of the examples'."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name not in {"example", "examples"}:
                yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def test_every_schema_is_used_and_every_reference_leads_to_one() -> None:
    named = {node["$ref"].rpartition("/")[2] for node in _nodes(DOCUMENT) if "$ref" in node}
    assert named == set(DOCUMENT["components"]["schemas"])


def test_it_fits_wherever_the_api_is_deployed() -> None:
    assert DOCUMENT["servers"] == [{"url": "."}]
    hosts = set(re.findall(r"https?://([\w.-]+)", json.dumps(DOCUMENT)))
    assert hosts <= {"instagram.com", "shop.example.com"}


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)


def _examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield each example with its schema and a name."""
    for (path, method), operation in OPERATIONS.items():
        where = f"{method} {path}"
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                yield f"{where} {parameter['name']}", parameter["schema"], parameter["example"]
        bodies = [("asked", operation.get("requestBody", {})), *operation["responses"].items()]
        for status, body in bodies:
            for media_type, content in body.get("content", {}).items():
                for name, example in content["examples"].items():
                    yield f"{where} {status} {media_type} {name}", content["schema"], example["value"]
            for name, header in body.get("headers", {}).items():
                yield f"{where} {status} {name}", header["schema"], header["example"]


EXAMPLES = list(_examples())


@pytest.mark.parametrize(("schema", "value"), [(s, v) for _, s, v in EXAMPLES], ids=[name for name, _, _ in EXAMPLES])
def test_every_example_is_what_its_schema_says(schema: dict[str, Any], value: Any) -> None:
    assert [error.message for error in _validator(schema).iter_errors(value)] == []


def test_every_answer_with_a_body_has_an_example() -> None:
    for operation in OPERATIONS.values():
        for response in operation["responses"].values():
            assert all(content["examples"] for content in response.get("content", {}).values())
            assert response["headers"]["X-Request-Id"]["required"]


# -- the document and the code ---------------------------------------------------------------------------------------


def test_it_has_the_routes_and_methods_of_the_app_and_no_others(application: Chalice) -> None:
    served = {(path, method.lower()) for path, methods in application.routes.items() for method in methods}
    assert set(OPERATIONS) == served


def _asked(version: str) -> dict[str, str]:
    schema = DOCUMENT["components"]["schemas"][version]
    mapping: dict[str, str] = schema["discriminator"]["mapping"]
    assert [{"$ref": target} for target in mapping.values()] == schema["oneOf"]
    return mapping


def test_it_has_the_actions_that_can_be_asked_for_and_no_others() -> None:
    assert _asked("V3Request").keys() == {action.value for action in COMMANDS}
    assert _asked("V2Request").keys() == {action.value for action in COMMANDS} & PROTOCOL
    [by_query] = [given for given in PATHS["/v2"]["get"]["parameters"] if given["name"] == "action"]
    assert set(by_query["schema"]["enum"]) == _asked("V2Request").keys()


def test_every_field_of_every_command_is_in_its_request() -> None:
    for action, command in COMMANDS.items():
        schema = DOCUMENT["components"]["schemas"][request_name(action)]
        assert schema["properties"].keys() == {"action", *command.model_fields} - {"extra"}
        assert schema["properties"]["action"]["const"] == action.value


@pytest.mark.parametrize("path", ["/v2", "/v3"])
def test_every_action_has_an_example_in_every_encoding(path: str) -> None:
    post = PATHS[path]["post"]
    for content in post["requestBody"]["content"].values():
        asked = {example["value"]["action"] for example in content["examples"].values()}
        assert asked == _asked(f"V{path[-1]}Request").keys()
    answered = {name for status in ("200", "202") for name in post["responses"].get(status, {}).get("content", {})}
    assert answered == {"application/json"}


# The contract's table of section 4.
CONTRACT = {
    400: "invalid_request unknown_action",
    401: "invalid_api_key",
    402: "insufficient_funds spend_limit_reached",
    403: "forbidden",
    404: "service_not_found order_not_found refill_not_found",
    409: "request_in_progress price_changed duplicate_link",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_link invalid_quantity missing_field not_supported idempotency_key_reused order_refused",
    429: "rate_limited",
    500: "internal",
    503: "service_unavailable",
}


def test_v3_has_each_code_at_its_status() -> None:
    told = {
        (code, int(status))
        for status, response in PATHS["/v3"]["post"]["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["schema"]["properties"]["code"]["enum"]
    }
    assert told == {(code, status) for status, codes in CONTRACT.items() for code in codes.split()}


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("Invalid API key", True),
        ("Incorrect request", True),
        ("Incorrect action", True),
        ("Incorrect service ID", True),
        ("Incorrect order ID", True),
        ("Refill not found", True),
        ("Incorrect link", True),
        ("Quantity less than minimal 50", True),
        ("Quantity more than maximum 10000", True),
        ("Incorrect quantity", True),
        ("Not enough funds on balance", True),
        ("You have active order with this link. Please wait until order being completed.", True),
        ("Service temporarily unavailable", True),
        ("Too many requests", True),
        ("Something else", False),
        ("Quantity less than minimal fifty", False),
    ],
)
def test_v2_has_the_protocols_sentences_and_no_others(sentence: str, told: bool) -> None:  # noqa: FBT001 - a table
    assert valid(component("V2Error"), {"error": sentence}) is told
    assert not valid(component("V2Error"), {"error": sentence, "code": "internal"})


VALUES: tuple[Any, ...] = (
    0,
    "0",
    5,
    5.0,
    5.5,
    -1,
    10**18 - 1,
    10**18,
    "5",
    " 5 ",
    "5.5",
    "-5",
    "x",
    "",
    None,
    True,
    [],
    {},
    ["x"],
)


def _base(action: Action, field: str) -> Mapping[str, Any]:
    """Return the fields of a good request in which a field stands, if there is an example of one."""
    cases = [case for case in CASES if case.action is action and case.offered]
    return next((case.fields for case in cases if field in case.fields), cases[0].fields)


FIELDS = [(action, name) for action in COMMANDS for name in COMMANDS[action].model_fields if name != "extra"]


@pytest.mark.parametrize(("action", "field"), FIELDS, ids=[f"{action.value} {field}" for action, field in FIELDS])
def test_what_a_request_may_say_is_what_the_code_takes(action: Action, field: str) -> None:
    required = DOCUMENT["components"]["schemas"][request_name(action)]["required"]
    for value in VALUES:
        fields = {**_base(action, field), field: value}
        told = valid(component(request_name(action)), {"action": action.value, **fields})
        assert told is _taken(action, fields, partner=field not in required), f"{field}={value!r}"


def _taken(action: Action, fields: Mapping[str, Any], *, partner: bool = False) -> bool:
    """Say whether the code takes a request; with ``partner``, lacking a field that another one needs is all right."""
    read = {name: Decimal(str(value)) if isinstance(value, float) else value for name, value in fields.items()}
    try:
        read_command(action, read)
    except Refusal as refusal:
        return partner and refusal.code is Code.MISSING_FIELD
    return True


@pytest.mark.parametrize(
    ("link", "taken"),
    [
        ("https://instagram.com/p/x?y=1#z", True),
        ("HTTP://A.B", True),
        ("instagram.com/x", True),
        ("a.b:80/x", True),
        ("@some_user", True),
        ("ftp://host/file", False),
        ("https://x y", False),
        ("x" * 2049, False),
        ("https://", False),
    ],
)
def test_a_link_may_be_what_the_code_takes(link: str, taken: bool) -> None:  # noqa: FBT001 - a table
    fields = {**_base(Action.ADD, "link"), "link": link}
    assert valid(component("AddRequest"), {"action": "add", **fields}) is _taken(Action.ADD, fields) is taken


# -- the document and the answers ------------------------------------------------------------------------------------


def conforms(answer: Answered, path: str) -> None:
    """Check an answer against what the document says of its status, headers and body."""
    response = PATHS[path]["post"]["responses"][str(answer.status)]
    for name, header in response["headers"].items():
        value = answer.headers.get(name)
        assert value is not None or not header.get("required"), f"{name} is missing"
        if value is not None:
            whole = header["schema"]["type"] == "integer"
            assert valid(header["schema"], int(value) if whole else value), f"{name}: {value}"
    known = {*response["headers"], "Content-Type", "Cache-Control", "X-Content-Type-Options"}
    assert set(answer.headers) <= known
    content = response.get("content")
    assert bool(content) is bool(answer.text)
    if content:
        errors = _validator(content["application/json"]["schema"]).iter_errors(answer.json)
        assert [error.message for error in errors] == []


ADD = {"action": "add", "service": 1001, "link": LINK, "quantity": 100}


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "balance"},
        {"action": "services"},
        ADD,
        {"action": "status", "order": 1_000_001},
        {"action": "nonsense"},
        {},
        {**ADD, "quantity": 1},
        {**ADD, "quantity": 10**9},
        {**ADD, "link": "no link"},
        {**ADD, "service": 7},
        {**ADD, "max_charge": "0.01"},
        {"action": "balance", "key": "nobody"},
    ],
    ids=str,
)
def test_answers_are_what_the_document_says(world: World, fields: dict[str, Any]) -> None:
    conforms(v2(world, fields), "/v2")
    conforms(v3(world, fields), "/v3")


def test_orders_are_answered_as_the_document_says(world: World) -> None:
    order = v3(world, ADD, headers={"idempotency-key": "k"}).json["order"]
    conforms(v3(world, ADD, headers={"idempotency-key": "k"}), "/v3")
    for path, answer in (("/v2", v2), ("/v3", v3)):
        conforms(answer(world, {"action": "status", "order": order}), path)
    world.panel.behaviours["add"] = buys_and_loses_the_answer
    unconfirmed = v3(world, ADD)
    assert unconfirmed.status == 202
    conforms(unconfirmed, "/v3")
    world.panel.behaviours["add"] = cannot_be_reached
    unavailable = v3(world, ADD)
    assert unavailable.status == 503
    conforms(unavailable, "/v3")
    conforms(v2(world, ADD), "/v2")


def test_limits_and_304_are_answered_as_the_document_says(world: World) -> None:
    etag = v3(world, {"action": "services"}).headers["ETag"]
    unchanged = v3(world, {"action": "services"}, headers={"if-none-match": etag})
    assert unchanged.status == 304
    conforms(unchanged, "/v3")
    poor = world.add_tenant(Tenant(id="poor", burst=1), credit=0)
    conforms(v3(world, ADD, headers={"authorization": f"Bearer {poor}"}), "/v3")
    for path, answer in (("/v2", v2(world, {**ADD, "key": poor})), ("/v3", v3(world, {**ADD, "key": poor}))):
        assert answer.status == 429
        conforms(answer, path)


# -- serving it ------------------------------------------------------------------------------------------------------


def test_304_for_who_has_it_already() -> None:
    first = serve_document(ask())
    etag = first.headers["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = serve_document(ask(**{"if-none-match": known}))
        assert (again.status, again.body, again.headers["ETag"]) == (304, "", etag)
    assert serve_document(ask(**{"if-none-match": '"other"'})).status == 200


def test_no_other_request_pays_for_it() -> None:
    asked = "import sys, app; sys.exit(any(name.startswith('chalicelib.api.openapi') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=True)  # noqa: S603 - our own Python


def test_every_container_has_the_same() -> None:
    told = "from tests.api.test_openapi import ask, serve_document; print(serve_document(ask()).headers['ETag'])"
    etags = {
        subprocess.run(  # noqa: S603 - our own Python
            [sys.executable, "-c", told], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(etags) == 1


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what Postman makes of the document."""
    npx, folder = shutil.which("npx"), tmp_path_factory.mktemp("postman")
    if npx is None:
        pytest.skip("npx is not on this machine: what Postman makes of the document is not seen")
    (folder / "openapi.json").write_text(json.dumps(DOCUMENT))
    fetch = [npx, "--yes", "--fetch-retries=0", "--fetch-timeout=20000", f"--package={POSTMAN}"]
    ready = subprocess.run([*fetch, "openapi2postmanv2", "--version"], cwd=folder, capture_output=True, check=False)  # noqa: S603 - named above
    if ready.returncode:
        pytest.skip(f"npm does not have {POSTMAN} for us: what Postman makes of the document is not seen")
    convert = ["openapi2postmanv2", "--interface-version", "v2", "-s", "openapi.json", "-o", "collection.json"]
    subprocess.run([*fetch, *convert], cwd=folder, capture_output=True, check=True)  # noqa: S603 - named above
    read: dict[str, Any] = json.loads((folder / "collection.json").read_text())
    return read


def _requests(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        if "item" in item:
            yield from _requests(item["item"])
        else:
            yield item["request"]


def test_postman_imports_it_and_the_requests_can_be_sent(collection: dict[str, Any]) -> None:
    requests = {
        (f"/{request['url']['path'][0]}", request["method"].lower()): request
        for request in _requests(collection["item"])
    }
    assert requests.keys() == OPERATIONS.keys()
    assert [variable["key"] for variable in collection["variable"]] == ["baseUrl"]
    v3_post, v2_post = requests["/v3", "post"], requests["/v2", "post"]
    assert {request["auth"]["type"] for request in (v3_post, v2_post)} == {"bearer"}
    assert json.loads(v3_post["body"]["raw"]) == {"action": "balance"}
    assert [(field["key"], field["value"]) for field in v2_post["body"]["urlencoded"]] == [("action", "balance")]
