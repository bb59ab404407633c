"""Calls the faces of the API as API Gateway would, without a socket, and says what they asked of the store."""

import json
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from chalice.app import Response

from chalicelib.api.answers import serve
from chalicelib.api.reading import Incoming
from chalicelib.api.v2 import V2
from chalicelib.api.v3 import V3
from chalicelib.clock import SECOND
from tests.market import Market
from tests.world import World

Caller = World | Market

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    text: str

    @classmethod
    def of(cls, response: Response) -> "Answered":
        return cls(response.status_code, {k: str(v) for k, v in response.headers.items()}, str(response.body))

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def incoming(world: Caller, **given: Any) -> Incoming:
    fields: dict[str, Any] = {
        "method": "POST",
        "headers": {},
        "query": (),
        "body": b"",
        "address": "203.0.113.7",
        "arrival": world.time.at,
        "end": world.time.at + 28 * SECOND,
    }
    return Incoming(**fields | given)


def v2(world: Caller, fields: dict[str, Any] | None = None, /, **given: Any) -> Answered:
    """Call v2 with form fields and the demo key, or with whatever is given."""
    if fields is not None:
        body = urlencode({"key": world.key, **fields}, doseq=True).encode()
        given = {"headers": {"content-type": FORM}, "body": body, **given}
    return Answered.of(serve(V2, incoming(world, **given), world.parts.gateway))


def v3(world: Caller, fields: Any = None, /, *, headers: dict[str, str] | None = None, **given: Any) -> Answered:
    """Call v3 with a JSON object and the demo key, or with whatever is given."""
    standard = {"content-type": "application/json", "authorization": f"Bearer {world.key}"}
    body = given.pop("body", None) or json.dumps(fields).encode()
    return Answered.of(
        serve(V3, incoming(world, headers=standard | (headers or {}), body=body, **given), world.parts.gateway)
    )


@dataclass
class Recorded:
    """Passes calls of the store on and keeps what they were: the operation and, of one item, its sort key."""

    client: Any
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.client, name)

        def call(**request: Any) -> Any:
            key = request.get("Key") or request.get("Item") or {}
            self.calls.append((name, key.get("sk", {}).get("S", "")))
            return operation(**request)

        return call


def container(world: World) -> tuple[World, Recorded]:
    """Return the stage as a fresh container sees it, and what it asks of the store."""
    recorded = Recorded(world.parts.table.client)
    return replace(world, parts=world.twin(dynamodb=recorded)), recorded
