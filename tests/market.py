"""A world with all five sandbox panels in this very process: they share no code with the gateway, and count for us."""

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlsplit

from chalicelib import jobs
from chalicelib.clock import SECOND
from chalicelib.errors import NeverSent
from chalicelib.model import Account, Provider, Tenant
from chalicelib.panels import DIALECTS
from chalicelib.panels.dialect import Reply, Request
from cli.seed import PANELS
from sandbox import orders
from sandbox.exchange import receive
from sandbox.messages import Request as Heard
from sandbox.panel import Customer, Panel
from sandbox.profiles import PROFILES
from tests.stage import MovableClock, Stage


@dataclass
class Panels:
    """A sender to the five panels, as if over a network that loses nothing."""

    time: MovableClock
    panels: dict[str, Panel] = field(default_factory=dict)
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)
    tries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.panels = {
            profile.slug: Panel(profile, clock=lambda: self.time.at / SECOND, speed=1.0, rate_limits=True)
            for profile in PROFILES
        }

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        assert send_by is None or send_by <= deadline
        parts = urlsplit(url)
        slug = parts.path.split("/")[1]
        self.tries += 1
        if slug in self.unreachable:
            raise NeverSent("connection refused")
        panel = self.panels[slug]
        target = f"{parts.path}?{request.query}" if request.query else parts.path
        headers = {name.lower(): value for name, value in request.headers.items()}
        heard = Heard(request.method, target, headers, request.body, self.time.at / SECOND)
        call = panel.profile.dialect.read(heard)
        with self._lock:
            self.heard.append((slug, dict(call.fields)))
            self.keys.append((slug, call.action, call.key))
        parcel = receive(panel, heard, self.time.sleep).parcel
        return Reply(parcel.status, {name.lower(): value for name, value in parcel.headers}, parcel.body)


@dataclass(kw_only=True)
class Market(Stage):
    """A stage with the five providers and a tenant with money."""

    network: Panels

    CREDIT: ClassVar[int] = 1000 * SECOND

    @classmethod
    def new(cls, stage: str, dynamodb: Any, secrets: Any, *, slugs: Collection[str] = ()) -> "Market":
        """Make one with these panels, or with all."""
        time = MovableClock()
        network = Panels(time)
        market = cls.wired(stage, dynamodb, secrets, sender=network, time=time, network=network)
        for seeded in PANELS if not slugs else [one for one in PANELS if one.slug in slugs]:
            market.add_provider(seeded.slug, seeded.dialect)
        market.key = market.add_tenant(Tenant(id="acme", interval=1, burst=1000))
        return market

    def add_provider(self, slug: str, dialect: str) -> None:
        panel, capabilities = self.panel(slug), DIALECTS[dialect].capabilities
        panel.set_funds(panel.balance * 1_000_000)
        provider = self.registry.add_provider(
            Provider(
                slug=slug,
                number=0,
                dialect=dialect,
                url=f"https://panels.test{panel.profile.path}",
                interval=capabilities.interval,
                burst=capabilities.burst,
            )
        )
        self.put_key(provider.account, panel.keys[0], token="0" * 32)
        jobs.sync_catalog(self.parts, provider)

    def give_own_key(self, slug: str, tenant: str = "acme", *, balance: int = 1_000_000) -> str:
        """Open an account of a tenant's own at a panel, and have its orders bought with it; return its key."""
        key, account = f"own-key-of-{tenant}-at-{slug}", Account(slug, tenant)
        self.panel(slug).customers[tenant] = Customer([key], Decimal(balance))
        self.put_key(account, key, token="1" * 32)
        self.registry.set_own_key(tenant, slug, is_used=True)
        return key

    def panel(self, slug: str) -> Panel:
        return self.network.panels[slug]

    def service(self, slug: str, kind: str) -> int:
        """Return the public id of a panel's service of a type, one with drip-feed where there is one."""
        of_kind = [service for service in self.panel(slug).services.values() if service.type == kind]
        number = max(of_kind, key=lambda service: bool(service.dripfeed)).id
        return number * 1000 + self.registry.provider(slug).number

    def bought(self, slug: str) -> list[orders.Order]:
        return list(self.panel(slug).orders.values())

    def asked(self, slug: str, action: str) -> list[dict[str, Any]]:
        """Return the fields of what a panel heard of an action."""
        return [fields for heard, fields in self.network.heard if heard == slug and fields.get("action") == action]

    def keys_heard(self, slug: str, *actions: str) -> list[str]:
        """Return with which keys a panel was asked for some actions, in turn."""
        return [key for heard, action, key in self.network.keys if heard == slug and action in actions]

    def move(self, slug: str, order: int, stage: orders.Stage, tenant: str = "acme") -> None:
        """Put one of our orders at a stage at its panel, and let what we know of it grow old."""
        record = self.parts.orders.get(tenant, order)
        assert record is not None
        panel = self.panel(slug)
        panel.move(panel.find(str(record.provider_order)), stage)
        self.time.at += 16 * SECOND
