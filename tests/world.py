"""A small world to test in: a real table and secrets on the emulator, a pretend panel, a clock that tests move."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from chalicelib.actions import PanelService
from chalicelib.aws.clients import Clients
from chalicelib.aws.registry import Registry
from chalicelib.clock import SECOND, Clock
from chalicelib.commands import AddCommand, StatusCommand
from chalicelib.errors import AnswerLost, NeverSent, Refusal
from chalicelib.gateway import Credentials, Denied
from chalicelib.model import OrderState, Provider, Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.ports import Sender
from chalicelib.purchase import Deadline, Receipt
from chalicelib.results import Progress
from chalicelib.session import Session
from chalicelib.settings import Settings
from chalicelib.wiring import Parts, assemble

REGION = "us-east-1"
START = 1_800_000_000_000_000
PROVIDER_KEY = "pk-4f9c2a7711d0e6b8"
LINK = "https://instagram.com/example"
NOT_BOUGHT = (OrderState.REJECTED, OrderState.NOT_PLACED)


@dataclass
class MovableClock:
    """Time stands still unless a test, or somebody's sleep, moves it; µs."""

    at: int = START

    def now(self) -> int:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += round(seconds * SECOND)

    @property
    def clock(self) -> Clock:
        return Clock(now=self.now, sleep=self.sleep)


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


@dataclass
class World:
    """A stage, its operator, its panel and its clock."""

    parts: Parts
    secrets: Any
    registry: Registry
    clients: Clients
    panel: PretendPanel
    time: MovableClock
    key: str = ""

    @classmethod
    def new(cls, stage: str, dynamodb: Any, secrets: Any) -> "World":
        time, panel = MovableClock(), PretendPanel()
        parts = assemble(Settings(stage), dynamodb, secrets, panel, time.clock)
        world = cls(parts, secrets, Registry(parts.table), Clients(parts.table), panel, time)
        world.add_provider(Provider(slug="smosale", number=0, dialect="perfectpanel", url="https://panel.test/api/v2"))
        world.key = world.add_tenant(Tenant(id="acme"))
        return world

    def add_provider(self, provider: Provider, *, key: str = PROVIDER_KEY) -> Provider:
        added = self.registry.add_provider(provider)
        version = self.parts.vault.store_pending(provider.account, key, token="0" * 32).version
        self.parts.vault.promote(provider.account, version)
        self.parts.catalog.sync(provider.slug, [FOLLOWERS, COMMENTS])
        return added

    def add_tenant(self, tenant: Tenant, *, credit: int = 100 * SECOND) -> str:
        """Make a tenant with some money (micro-USD) and return a client key of it."""
        self.registry.create_tenant(tenant)
        if credit:
            self.parts.wallet.credit(tenant.id, credit, reference="start")
        return self.clients.create(tenant.id).key

    def twin(
        self, dynamodb: Any = None, secrets: Any = None, sender: Sender | None = None, clock: Clock | None = None
    ) -> Parts:
        """Return the same stage as another container sees it: nothing remembered, nothing cached."""
        parts = self.parts
        return assemble(
            parts.settings,
            dynamodb or parts.table.client,
            secrets or self.secrets,
            sender or parts.sender,
            clock or parts.clock,
        )

    def deadline(self) -> Deadline:
        return Deadline(self.time.at + 25 * SECOND)

    def session(self, key: str | None = None, parts: Parts | None = None) -> Session:
        session = (parts or self.parts).gateway.admit(Credentials(key or self.key), self.deadline())
        assert isinstance(session, Session), session
        return session

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

    def money(self, tenant: str = "acme") -> tuple[int, int]:
        """Return what a tenant's wallet has, available and held; it must be what its ledger adds up to."""
        balances = self.parts.wallet.balances(tenant)
        entries = list(self.parts.wallet.ledger(tenant))
        assert balances.available == sum(entry["available"] for entry in entries)
        assert balances.held == sum(entry["held"] for entry in entries)
        assert balances.available >= 0
        assert balances.held >= 0
        return balances.available, balances.held

    def spent(self, tenant: str = "acme") -> dict[str, int]:
        """Return what a tenant's days have counted; it must be what their orders cost, without those not bought."""
        counted, due = days(self.parts, tenant)
        assert counted == due
        return counted


def days(parts: Parts, tenant: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return what a tenant's days have counted, and what their orders cost, without those not bought."""
    items = parts.table.query(f"T#{tenant}", "SPEND#")
    counted = {item["sk"].removeprefix("SPEND#"): item["spent"] for item in items}
    due = dict.fromkeys(counted, 0)
    for order in parts.orders.page(tenant):
        if order.budget is not None and order.state not in NOT_BOUGHT:
            due[order.budget.day] += order.charge
    return counted, due


def allowances(parts: Parts, tenant: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return what a tenant's tokens have counted, and what their orders cost; what has expired counts no more."""
    now = parts.clock.now()
    counted = {
        item["id"]: item["spent"] for item in parts.table.query(f"T#{tenant}", "TOKEN#") if item["expires"] > now
    }
    due = dict.fromkeys(counted, 0)
    for order in parts.orders.page(tenant):
        if order.allowance is not None and order.allowance.token in due and order.state not in NOT_BOUGHT:
            due[order.allowance.token] += order.charge
    return counted, due


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
