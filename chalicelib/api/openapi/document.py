"""The document itself, put together: paths, answers by status, headers and security."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.api import v2
from chalicelib.api.openapi import shapes
from chalicelib.api.openapi.cases import CASES, SENTENCES, Answered, Case
from chalicelib.api.openapi.requests import query_parameters, request_schemas
from chalicelib.api.openapi.shapes import Schema, closed, either, ref
from chalicelib.errors import HTTP_STATUS, Code, Refusal
from chalicelib.requesting import REFUSALS
from chalicelib.settings import VERSION

_ABOUT = """\
One API in front of several SMM panels, in two versions.

**v2** is the classic panel protocol, for panel software: a form (or JSON, multipart, a query) in, HTTP 200 and JSON
out, errors as `{"error": "…"}`; the one other status is 429. `/v2/` with a slash is the same.

**v3** is for programs of your own: JSON in, exact numbers, HTTP statuses and error codes out.

The key travels as `Authorization: Bearer`, or as the field `key` of the body; v2 also takes `X-Api-Key` and `?key=`.
Of several the body's counts, then the query's, that of `Authorization`, that of `X-Api-Key`, be it good or not.
Send an `Idempotency-Key` with every `add`: then it is safe to repeat.

Every answer has an `X-Request-Id`. What does not reach the API (an unknown path, a body of megabytes, a failure of the
gateway in front) is answered `{"error", "code", "request_id"}` in both versions.
"""
_JSON = "application/json"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

_HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "description": "Names this answer; tell it to the operator when something is wrong.",
        "schema": {"type": "string", "minLength": 1},
        "example": "req_5f0c1d9e8b7a6f5e4d3c2b1a",
    },
    "RateLimit-Policy": {
        "description": "Your limit: `q` requests in `w` seconds.",
        "schema": {"type": "string", "pattern": '^"default";q=[0-9]+;w=[0-9]+$'},
        "example": '"default";q=20;w=2',
    },
    "RateLimit": {
        "description": "What is left of it: `r` requests now, all of them in `t` seconds.",
        "schema": {"type": "string", "pattern": '^"default";r=[0-9]+;t=[0-9]+$'},
        "example": '"default";r=19;t=1',
    },
    "Retry-After": {
        "description": "Seconds until a new try makes sense, with the same idempotency key.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "Idempotent-Replayed": {
        "description": "This is the first answer to the idempotency key, given again.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "ETag": {
        "description": "Names this very content, for If-None-Match.",
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'},
        "example": '"0f343b0931126a20f133d67c2b018a3b"',
    },
    "Link": {
        "description": "The next page, where there is one.",
        "schema": {"type": "string", "pattern": r'^<\?cursor=[0-9]+>; rel="next"$'},
        "example": '<?cursor=2001>; rel="next"',
    },
    "Access-Control-Allow-Origin": {"schema": {"type": "string"}, "example": "https://shop.example.com"},
    "Access-Control-Expose-Headers": {
        "schema": {"type": "string"},
        "example": "ETag, Idempotent-Replayed, Link, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id",
    },
    "Vary": {"schema": {"type": "string", "enum": ["Origin"]}, "example": "Origin"},
    "Access-Control-Allow-Methods": {"schema": {"type": "string", "enum": ["POST"]}, "example": "POST"},
    "Access-Control-Allow-Headers": {
        "schema": {"type": "string"},
        "example": "Authorization, Content-Type, Idempotency-Key, If-None-Match",
    },
    "Access-Control-Max-Age": {"schema": {"type": "integer", "minimum": 0}, "example": 600},
}
_ID = "X-Request-Id"
# What pages need to read an answer (contract 4).
_CORS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers")
_LIMIT = ("RateLimit-Policy", "RateLimit")

_IDEMPOTENCY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "With `add`: the same key makes one order only, however often it is sent.",
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "example": "order-5021",
}
_IF_NONE_MATCH: Schema = {
    "name": "If-None-Match",
    "in": "header",
    "description": "An ETag of before: the answer is 304 if nothing changed since.",
    "schema": {"type": "string"},
    "example": '"0f343b0931126a20f133d67c2b018a3b"',
}
_ORIGIN: Schema = {
    "name": "Origin",
    "in": "header",
    "description": "The page's origin; a browser sends it.",
    "schema": {"type": "string"},
    "example": "https://shop.example.com",
}
_CURSOR: Schema = {
    "name": "cursor",
    "in": "query",
    "description": "With `services`: where the next page begins, as the `Link` header has it.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "example": "2001",
}

# What the caller may already have been counted for when a status is answered; before that no limit can be told.
_ALWAYS_COUNTED = frozenset({402, 403, 404, 409, 422, 429})
_WITH_RETRY = frozenset({429, 503})
_MEANINGS: Mapping[int, str] = {
    400: "The request is not understood.",
    401: "There is no such key.",
    402: "There is not enough money.",
    403: "This key may not do this, or not from there.",
    404: "There is no such service, order or refill.",
    409: "Something else is in the way.",
    413: "The request is too large.",
    415: "The body has another type.",
    422: "The request is understood, and cannot be done.",
    429: "The limit is reached.",
    500: "Something went wrong on our side. Repeat an `add` only with its idempotency key.",
    503: "The panel cannot be used now; nothing was bought.",
}


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of this API."""
    paths = _paths()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Panelgate", "version": VERSION, "description": _ABOUT},
        # Relative to the document, so that it holds wherever the API is deployed.
        "servers": [{"url": "."}],
        "tags": [
            {"name": "v2", "description": "The classic panel protocol."},
            {"name": "v3", "description": "The JSON API."},
            {"name": "service", "description": "The API itself; no key is needed."},
        ],
        "paths": paths,
        "components": {"schemas": _needed(paths, _schemas()), "securitySchemes": _SECURITY},
    }


def _paths() -> dict[str, Any]:
    return {
        "/v2": {"post": _v2_post(), "get": _v2_get()},
        "/v3": {"post": _v3_post(), "options": _preflight()},
        "/health": {"get": _health()},
        "/openapi.json": {"get": _itself()},
    }


_SECURITY: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A client key, `pg_live_…`, or `pg_test_…` for the built-in test provider; with v3 also a "
        "browser token, `pgb_…`.",
    },
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
}


def _schemas() -> dict[str, Any]:
    every = {**shapes.V3, **shapes.V2, **request_schemas(), "V2Error": _v2_error()}
    every["Health"] = closed({"status": {"const": "ok"}, "version": {"type": "string"}})
    return every


def _needed(user: object, every: Mapping[str, Any]) -> dict[str, Any]:
    """Return those schemas that something refers to: the tables know more actions than can be asked for."""
    text = json.dumps(user)
    found = {name: schema for name, schema in every.items() if json.dumps(ref(name)) in text}
    rest = {name: schema for name, schema in every.items() if name not in found}
    return {**found, **_needed(list(found.values()), rest)} if found else {}


# -- v2 ----------------------------------------------------------------------------------------------------------------


def _v2_post() -> dict[str, Any]:
    schema, cases = ref("V2Request"), [case for case in CASES if case.offered and case.v2]
    form = {"schema": schema, "examples": {case.name: _asked(case, case.words) for case in cases}}
    content = {**dict.fromkeys(_FORMS, form), _JSON: {"schema": schema, "examples": _questions(cases)}}
    return _v2_operation("v2", [_IDEMPOTENCY]) | {"requestBody": {"required": True, "content": content}}


def _v2_get() -> dict[str, Any]:
    return _v2_operation("v2ByQuery", [*query_parameters(), _IDEMPOTENCY])


def _v2_operation(name: str, parameters: list[Any]) -> dict[str, Any]:
    results, examples = _results((case.name, case.v2) for case in CASES if case.offered and case.v2)
    examples |= {f"error_{code}": {"value": _v2_refused(code)} for code in (Code.INVALID_API_KEY, Code.ORDER_NOT_FOUND)}
    ok = _response(
        "What was asked for, or an error.",
        either(*results, ref("V2Error")),
        examples,
        _headers(_ID, optional=(*_LIMIT, "Retry-After", "Idempotent-Replayed")),
    )
    limited = _response(
        _MEANINGS[429],
        ref("V2Error"),
        {Code.RATE_LIMITED.value: {"value": _v2_refused(Code.RATE_LIMITED)}},
        _headers(_ID, *_LIMIT, "Retry-After"),
    )
    return {
        "operationId": name,
        "summary": "The classic panel protocol",
        "tags": ["v2"],
        "security": [{"bearer": []}, {"header": []}, {"query": []}],
        "parameters": parameters,
        "responses": {"200": ok, "429": limited},
    }


def _v2_error() -> dict[str, Any]:
    """Return the errors of v2: the sentences for the codes, better ones, and those with a service's bounds."""
    worded = {_v2_refused(code)["error"]: None for code in Code if code is not Code.INVALID_QUANTITY}
    worded |= {classic: None for _, _, classic in REFUSALS.values() if classic is not None}
    bounds = {"type": "string", "pattern": "^Quantity (less than minimal|more than maximum) [0-9]+$"}
    return closed({"error": either({"enum": [*worded, "Incorrect quantity"]}, bounds)})


def _v2_refused(code: Code) -> dict[str, str]:
    body: dict[str, str] = json.loads(v2.refuse(Refusal(code, SENTENCES[code])).body)
    return body


# -- v3 ----------------------------------------------------------------------------------------------------------------


def _v3_post() -> dict[str, Any]:
    cases = [case for case in CASES if case.offered and case.v3]
    content = {_JSON: {"schema": ref("V3Request"), "examples": _questions(cases)}}
    return {
        "operationId": "v3",
        "summary": "The JSON API",
        "tags": ["v3"],
        "security": [{"bearer": []}],
        "parameters": [_IDEMPOTENCY, _IF_NONE_MATCH, _CURSOR],
        "requestBody": {"required": True, "content": content},
        "responses": {**_v3_results(cases), **_v3_errors()},
    }


def _v3_results(cases: list[Case]) -> dict[str, Any]:
    answers = [(case.name, case.v3) for case in cases if case.v3]
    replies: dict[str, Any] = {}
    for status, (meaning, optional) in _V3_RESULTS.items():
        results, examples = _results((name, answer) for name, answer in answers if answer.status == status)
        headers = _headers(_ID, "Vary", *_LIMIT, optional=(*optional, *_CORS))
        replies[str(status)] = _response(meaning, either(*results), examples, headers)
    headers = _headers(_ID, "Vary", *_LIMIT, "ETag", optional=_CORS)
    unchanged = {"description": "The services are what your ETag names.", "headers": headers}
    return {**replies, "304": unchanged}


_V3_RESULTS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    200: ("What was asked for.", ("Idempotent-Replayed", "ETag", "Link")),
    202: (
        "The order exists, and what became of it is not known yet; `status` will tell. It is never sent twice.",
        ("Idempotent-Replayed",),
    ),
}


def _v3_errors() -> dict[str, Any]:
    by_status: dict[int, list[Code]] = {}
    for code in Code:
        by_status.setdefault(HTTP_STATUS[code], []).append(code)
    return {str(status): _v3_error(status, codes) for status, codes in sorted(by_status.items())}


def _v3_error(status: int, codes: list[Code]) -> dict[str, Any]:
    limit = _LIMIT if status in _ALWAYS_COUNTED else ()
    retry = ("Retry-After",) if status in _WITH_RETRY else ()
    optional = {*_LIMIT, "Retry-After", "Idempotent-Replayed"} - {*limit, *retry}
    return _response(
        _MEANINGS[status],
        _error(codes),
        {code.value: {"value": _v3_refused(code)} for code in codes},
        _headers(_ID, "Vary", *limit, *retry, optional=(*sorted(optional), *_CORS)),
    )


def _error(codes: Iterable[Code]) -> dict[str, Any]:
    sentence = {"type": "string", "minLength": 1}
    return closed({"error": sentence, "code": {"enum": [code.value for code in codes]}, "request_id": sentence})


def _v3_refused(code: Code) -> dict[str, Any]:
    return {"error": SENTENCES[code], "code": code.value, "request_id": _HEADERS[_ID]["example"]}


def _preflight() -> dict[str, Any]:
    allowed = [f"Access-Control-Allow-{what}" for what in ("Origin", "Methods", "Headers")]
    granted = {
        "description": "Pages of this origin may call.",
        "headers": _headers(_ID, "Vary", *allowed, "Access-Control-Max-Age", optional=_CORS[1:]),
    }
    refused = _response(
        "No tenant lists this origin.",
        _error([Code.FORBIDDEN]),
        {"forbidden": {"value": {**_v3_refused(Code.FORBIDDEN), "error": "This origin is not allowed"}}},
        _headers(_ID, "Vary"),
    )
    return {
        "operationId": "v3Preflight",
        "summary": "Whether a web page may call v3",
        "tags": ["v3"],
        "security": [],
        "parameters": [_ORIGIN],
        "responses": {"204": granted, "403": refused},
    }


# -- the API itself ----------------------------------------------------------------------------------------------------


def _health() -> dict[str, Any]:
    examples = {"ok": {"value": {"status": "ok", "version": VERSION}}}
    return {
        "operationId": "health",
        "summary": "Whether the API is up; nothing behind it is asked",
        "tags": ["service"],
        "security": [],
        "responses": {"200": _response("It is up.", ref("Health"), examples, _headers(_ID))},
    }


def _itself() -> dict[str, Any]:
    schema = {"type": "object", "required": ["openapi", "info", "paths"]}
    begun = {"openapi": "3.1.0", "info": {"title": "Panelgate", "version": VERSION}, "paths": {}}
    headers = _headers(_ID, "ETag")
    return {
        "operationId": "openapi",
        "summary": "This document",
        "tags": ["service"],
        "security": [],
        "parameters": [_IF_NONE_MATCH],
        "responses": {
            "200": _response("This document.", schema, {"begun": {"value": begun}}, headers),
            "304": {"description": "It is what your ETag names.", "headers": headers},
        },
    }


# -- what all of them are made of --------------------------------------------------------------------------------------


def _questions(cases: Iterable[Case]) -> dict[str, Any]:
    return {case.name: _asked(case, case.fields) for case in cases}


def _asked(case: Case, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"summary": case.summary, "value": {"action": case.action.value, **fields}}


def _results(answers: Iterable[tuple[str, Answered]]) -> tuple[list[Schema], dict[str, Any]]:
    """Return the schemas of named answers, each once, and the answers as examples."""
    found = dict(answers)
    names = dict.fromkeys(answer.shape for answer in found.values())
    return [ref(name) for name in names], {name: {"value": answer.body} for name, answer in found.items()}


def _response(meaning: str, schema: Schema, examples: Schema, headers: Schema) -> dict[str, Any]:
    return {
        "description": meaning,
        "headers": headers,
        "content": {_JSON: {"schema": schema, "examples": examples}},
    }


def _headers(*always: str, optional: Iterable[str] = ()) -> dict[str, Any]:
    return {
        **{name: {**_HEADERS[name], "required": True} for name in always},
        **{name: dict(_HEADERS[name]) for name in optional},
    }
