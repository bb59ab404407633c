"""A stage to call in this very process: the gateway on the local system's store and panels, with everything counted."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from chalice.app import Request

from chalicelib.api.answers import serve
from chalicelib.api.reading import Incoming
from chalicelib.api.v3 import V3
from chalicelib.aws.clients import Clients
from chalicelib.aws.registry import Registry
from chalicelib.clock import Clock
from chalicelib.model import Tenant
from chalicelib.panels.dialect import Reply
from chalicelib.panels.dialect import Request as PanelRequest
from chalicelib.settings import LOCAL_STAGE, Settings
from chalicelib.upstream import Sender
from chalicelib.wiring import Parts, assemble, build
from cli.console import Aws
from cli.system import LocalSystem

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_secretsmanager import SecretsManagerClient

PANEL = "smosale"
CREDIT = 1_000_000_000
"""In micro-USD: more than the benchmarks spend."""
LAMBDA_SECONDS = 28
EVENT: dict[str, Any] = {
    "isBase64Encoded": True,
    "pathParameters": None,
    "stageVariables": None,
    "multiValueQueryStringParameters": None,
    "requestContext": {"httpMethod": "POST", "resourcePath": "/v3", "identity": {"sourceIp": "203.0.113.7"}},
}
"""What API Gateway sends, as far as it is read."""


class _Context:
    """What the gateway asks of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """Return Lambda's whole time."""
        return LAMBDA_SECONDS * 1000


class MovableClock:
    """The system's clock, but it can be put forward, so that nobody waits, and stopped, so that nothing grows old."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._stopped_at: float | None = None

    def stop(self) -> None:
        """Stand still from now on."""
        self._stopped_at = time.time()

    def seconds(self) -> float:
        """Return epoch seconds."""
        return (self._stopped_at or time.time()) + self.ahead

    @property
    def clock(self) -> Clock:
        """Return it as the gateway takes it."""
        return Clock(now=lambda: round(self.seconds() * 1_000_000), sleep=time.sleep)


@dataclass
class Counts:
    """What one call asked of the world, by name, in order."""

    store: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    upstream: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Begin anew."""
        for names in (self.store, self.secrets, self.upstream):
            names.clear()


class CountingSender:
    """The real sender, counted."""

    def __init__(self, sender: Sender, names: list[str]) -> None:
        self._sender = sender
        self._names = names

    def send(self, url: str, request: PanelRequest, *, deadline: float, send_by: float | None = None) -> Reply:
        """Send a request once."""
        self._names.append(request.method)
        return self._sender.send(url, request, deadline=deadline, send_by=send_by)


@dataclass(frozen=True)
class Container:
    """A gateway as one Lambda container has it, with its caches empty at first."""

    parts: Parts
    time: MovableClock
    counts: Counts
    key: str

    def call(self, action: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        """Answer one v3 call, from API Gateway's event to Lambda's reply, and return the reply's JSON."""
        response = serve(V3, self._incoming({"action": action, **fields}), self.parts.gateway)
        reply = response.to_dict()
        if reply["statusCode"] != httpx.codes.OK:
            message = f"{action}: {reply['statusCode']} {reply['body']}"
            raise RuntimeError(message)
        return json.loads(reply["body"])

    def _incoming(self, fields: Mapping[str, object]) -> Incoming:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        body = base64.b64encode(json.dumps(fields).encode()).decode()
        incoming = Incoming.of(Request({**EVENT, "headers": headers, "body": body}, _Context()))
        now = round(self.time.seconds() * 1_000_000)
        return replace(incoming, arrival=now, end=now + LAMBDA_SECONDS * 1_000_000)


@dataclass(frozen=True)
class Stage:
    """The local system's store and panels, and a tenant of our own."""

    aws: Aws
    key: str
    service: int
    quantity: int

    def container(self) -> Container:
        """Return a gateway that has seen no request yet."""
        counts, ahead = Counts(), MovableClock()
        dynamodb: DynamoDBClient = self.client("dynamodb", counts.store)
        vault: SecretsManagerClient = self.client("secretsmanager", counts.secrets)
        sender = CountingSender(Sender(allow_loopback=True, clock=ahead.seconds), counts.upstream)
        return Container(assemble(Settings(LOCAL_STAGE), dynamodb, vault, sender, ahead.clock), ahead, counts, self.key)

    def client(self, service: str, names: list[str]) -> Any:  # noqa: ANN401 - of either service
        """Return a client that notes the name of each operation it sends, retries included."""
        client: Any = self.aws.session.client(service, endpoint_url=self.aws.endpoint)  # type: ignore[call-overload]

        def note(event_name: str, **_: object) -> None:
            names.append(event_name.rpartition(".")[2])

        client.meta.events.register(f"before-send.{service}", note)
        return client

    def order(self) -> dict[str, object]:
        """Return the fields of an order like no other."""
        name = secrets.token_hex(8)
        link = f"https://example.com/post/{name}"
        return {"service": self.service, "quantity": self.quantity, "link": link, "idempotency_key": name}


@contextmanager
def stage(folder: Path, progress: Callable[[str], None]) -> Iterator[Stage]:
    """Run the local system while the context lasts."""
    system = LocalSystem(folder / "local")
    facts = system.up(progress)
    try:
        yield _prepare(Aws.emulated(facts.aws_endpoint))
    finally:
        system.down(progress, erase=True)


def _prepare(aws: Aws) -> Stage:
    """Make a tenant without a limit of its own, and choose a service."""
    parts = build(Settings(LOCAL_STAGE), session=aws.session, endpoint=aws.endpoint)
    registry = Registry(parts.table)
    registry.create_tenant(Tenant(id="benchmark", interval=1000, burst=1_000_000))
    parts.wallet.credit("benchmark", CREDIT, reference="benchmark")
    key = Clients(parts.table).create("benchmark").key
    service = next(listed for listed in parts.catalog.listings([PANEL])[PANEL].services if listed.type == "Default")
    return Stage(aws, key, registry.provider(PANEL).global_id(service.id), service.min)
