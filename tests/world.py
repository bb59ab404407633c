"""A small world to test in: a real table and secrets on the emulator, a pretend panel, a clock that tests move."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from chalicelib.actions import PanelService
from chalicelib.clock import SECOND
from chalicelib.commands import AddCommand, StatusCommand
from chalicelib.errors import AnswerLost, NeverSent, Refusal
from chalicelib.gateway import Credentials, Denied
from chalicelib.model import Provider, Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.purchase import Receipt
from chalicelib.results import Progress
from chalicelib.wiring import Parts
from tests.stage import MovableClock, Stage

REGION = "us-east-1"
PROVIDER_KEY = "pk-4f9c2a7711d0e6b8"
LINK = "https://instagram.com/example"


Behaviour = Callable[["PretendPanel", dict[str, str]], Reply]


def says(body: Any, status: int = 200) -> Behaviour:
    """Return a behaviour that answers with JSON and buys nothing."""
    return lambda _panel, _fields: Reply(status, {}, json.dumps(body).encode())


def buys(panel: "PretendPanel", fields: dict[str, str]) -> Reply:
    """Take the order and say so."""
    return Reply(200, {}, json.dumps({"order": panel.buy(fields)}).encode())


def buys_and_loses_the_answer(panel: "PretendPanel", fields: dict[str, str]) -> Reply:
    """Take the order; the answer is lost on the way."""
    panel.buy(fields)
    raise AnswerLost("connection reset")


def loses_the_request(_panel: "PretendPanel", _fields: dict[str, str]) -> Reply:
    """Take nothing, and nobody can tell."""
    raise AnswerLost("timed out")


def cannot_be_reached(_panel: "PretendPanel", _fields: dict[str, str]) -> Reply:
    """Refuse the connection."""
    raise NeverSent("connection refused")


@dataclass
class PretendPanel:
    """A sender that is also the panel: it counts the purchases that it made, which is the truth."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    purchases: list[dict[str, str]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=lambda: {PROVIDER_KEY})
    first_order: int = 23501
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, _url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        assert send_by is None or send_by <= deadline
        body = request.body.decode()
        fields = json.loads(body) if body.startswith("{") else dict(parse_qsl(body, keep_blank_values=True))
        with self._lock:
            self.requests.append(fields)
        if fields["key"] not in self.keys:
            return Reply(200, {}, b'{"error":"Invalid API key"}')
        return {**_DEFAULTS, **self.behaviours}[fields["action"]](self, fields)

    def buy(self, fields: dict[str, str]) -> int:
        with self._lock:
            self.purchases.append(fields)
            return self.first_order + len(self.purchases) - 1

    def asked(self, action: str) -> int:
        return sum(fields["action"] == action for fields in self.requests)


_STATUS = {"charge": "0.9", "start_count": "10", "status": "In progress", "remains": "157", "currency": "USD"}
_DEFAULTS: Mapping[str, Behaviour] = {
    "add": buys,
    "status": says(_STATUS),
    "balance": says({"balance": "100.84292", "currency": "USD"}),
}


@dataclass(kw_only=True)
class World(Stage):
    """A stage with a pretend panel and a tenant."""

    panel: PretendPanel

    CREDIT: ClassVar[int] = 100 * SECOND

    @classmethod
    def new(cls, stage: str, dynamodb: Any, secrets: Any) -> "World":
        panel = PretendPanel()
        world = cls.wired(stage, dynamodb, secrets, sender=panel, time=MovableClock(), panel=panel)
        world.add_provider(Provider(slug="smosale", number=0, dialect="perfectpanel", url="https://panel.test/api/v2"))
        world.key = world.add_tenant(Tenant(id="acme"))
        return world

    def add_provider(self, provider: Provider, *, key: str = PROVIDER_KEY) -> Provider:
        added = self.registry.add_provider(provider)
        self.put_key(provider.account, key, token="0" * 32)
        self.parts.catalog.sync(provider.slug, [FOLLOWERS, COMMENTS])
        return added

    def denied(self, credentials: Credentials) -> Refusal:
        denied = self.parts.gateway.admit(credentials, self.deadline())
        assert isinstance(denied, Denied), denied
        return denied.refusal

    def add(self, key: str | None = None, parts: Parts | None = None, **fields: Any) -> Receipt:
        command = AddCommand.read({"service": 1001, "link": LINK, "quantity": 1000, **fields})
        result = (parts or self.parts).gateway.execute(self.session(key, parts), command)
        assert isinstance(result, Receipt)
        return result

    def status(self, order: int, key: str | None = None) -> Progress:
        result = self.parts.gateway.execute(self.session(key), StatusCommand(order=order))
        assert isinstance(result, Progress)
        return result


FOLLOWERS = PanelService(
    id=1,
    name="Followers",
    type="Default",
    category="First Category",
    rate=Decimal("0.90"),
    min=50,
    max=10000,
    refill=True,
    cancel=True,
    dripfeed=True,
)
COMMENTS = PanelService(
    id=2,
    name="Comments",
    type="Custom Comments",
    category="Second Category",
    rate=Decimal(8),
    min=10,
    max=1500,
    refill=False,
    cancel=True,
    dripfeed=None,
)
