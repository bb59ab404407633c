"""A stage on the emulator: its table and secrets, its operator and tenants, and a clock that tests move."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from chalicelib.aws.clients import Clients
from chalicelib.aws.registry import Registry
from chalicelib.clock import SECOND, Clock
from chalicelib.gateway import Credentials
from chalicelib.model import Account, OrderState, Tenant
from chalicelib.ports import Sender
from chalicelib.purchase import Deadline
from chalicelib.session import Session
from chalicelib.settings import Settings
from chalicelib.wiring import Parts, assemble

START = 1_800_000_000_000_000
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


@dataclass(kw_only=True)
class Stage:
    """What every stage has, whatever its panels are."""

    parts: Parts
    secrets: Any
    registry: Registry
    clients: Clients
    time: MovableClock
    key: str = ""

    CREDIT: ClassVar[int]
    """What a tenant begins with, in micro-USD."""

    @classmethod
    def wired(
        cls, stage: str, dynamodb: Any, secrets: Any, *, sender: Sender, time: MovableClock, **panels: Any
    ) -> Self:
        """Wire a stage without providers and tenants; ``panels`` are the fields that a kind of stage adds."""
        parts = assemble(Settings(stage), dynamodb, secrets, sender, time.clock)
        registry, clients = Registry(parts.table), Clients(parts.table)
        return cls(parts=parts, secrets=secrets, registry=registry, clients=clients, time=time, **panels)

    def add_tenant(self, tenant: Tenant, *, credit: int | None = None) -> str:
        """Make a tenant with some money (micro-USD) and return a client key of it."""
        self.registry.create_tenant(tenant)
        credit = self.CREDIT if credit is None else credit
        if credit:
            self.parts.wallet.credit(tenant.id, credit, reference="start")
        return self.clients.create(tenant.id).key

    def put_key(self, account: Account, key: str, *, token: str) -> None:
        """Make a provider key the current one of an account."""
        vault = self.parts.vault
        vault.promote(account, vault.store_pending(account, key, token=token).version)

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

    def money(self, tenant: str = "acme") -> tuple[int, int]:
        """Return what a tenant's wallet has, available and held; it must be what its ledger adds up to."""
        balances, entries = self.parts.wallet.balances(tenant), list(self.parts.wallet.ledger(tenant))
        assert balances.available == sum(entry["available"] for entry in entries)
        assert balances.held == sum(entry["held"] for entry in entries)
        assert min(balances.available, balances.held) >= 0
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
