"""A deployed system to test: one of our own on this machine, or the stage of PANELGATE_STAGE in an AWS account.

In an account, use a stage of its own. Tests that order need the sandbox panels served where the Lambdas reach them by
https (PANELGATE_SANDBOX_URL) and added to the stage as the providers smmafrica, smosale, smmrich, mysticsmm and
smmleaf, in this order; a provider that points anywhere else would cost money, so then these tests are left out. What
only an emulator can show (killed processes, its IAM switch) is left out there, too, and says so. AWS_ENDPOINT_URL
leads to another AWS than the real one, as for every AWS tool.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from chalicelib.aws.clients import Clients, IssuedKey
from chalicelib.aws.registry import Registry
from chalicelib.clock import SECOND
from chalicelib.model import Tenant
from chalicelib.settings import Settings
from chalicelib.wiring import Parts
from chalicelib.wiring import build as wire
from cli.console import Aws
from cli.seed import PANELS
from cli.stacks import deployed_api_url
from cli.system import LocalSystem


@dataclass(frozen=True)
class SandboxPanel:
    """One pretend panel, by its back door."""

    url: str

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        reply = httpx.request(method, f"{self.url}/{path}", json=body, timeout=30, trust_env=False)
        assert reply.is_success, reply.text
        return reply.json()

    def requests(self, action: str = "") -> list[dict[str, Any]]:
        logged = self.admin("GET", f"requests?action={action}" if action else "requests")
        rows: list[dict[str, Any]] = logged["requests"] if isinstance(logged, dict) else logged
        return rows

    def purchases(self, link: str) -> int:
        """Count the orders that this panel made for a link: the panel's word, not ours."""
        return len(self._orders(link))

    def _orders(self, link: str) -> list[dict[str, Any]]:
        return [row for row in self.admin("GET", "orders") if row["link"] == link]

    def move(self, link: str, status: str, **how: Any) -> None:
        """Put the order for a link at a status, and its time to rest; ``how``: remains, start_count, charge."""
        [order] = self._orders(link)
        self.admin("POST", f"orders/{order['id']}", {"status": status, **how})

    def fill(self, balance: int) -> None:
        """Set the balance of our account there."""
        self.admin("PUT", "balance", {"balance": str(balance)})

    def fault(self, name: str, **how: Any) -> None:
        self.admin("POST", "faults", {"fault": name, **how})

    def calm(self) -> None:
        self.admin("DELETE", "faults")


_SCHEDULED = {
    "version": "0",
    "account": "000000000000",
    "region": "us-east-1",
    "detail": {},
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "time": "2027-01-15T08:00:00Z",
    "id": "1",
    "resources": [],
}


@dataclass(frozen=True)
class Deployment:
    """A running gateway and its operator's access to it."""

    api_url: str
    stage: str
    aws: Aws
    parts: Parts
    sandbox_url: str
    local: LocalSystem | None
    made: list[str] = field(default_factory=list)

    @property
    def registry(self) -> Registry:
        return Registry(self.parts.table)

    @property
    def clients(self) -> Clients:
        return Clients(self.parts.table)

    def panel(self, slug: str) -> SandboxPanel:
        return SandboxPanel(f"{self.sandbox_url}/_admin/{slug}")

    def tenant(self, *, credit: int = 1000 * SECOND, **settings: Any) -> str:
        """Make a tenant of this test's own and return a client key."""
        return self.issue(credit=credit, **settings).key

    def issue(self, *, credit: int = 1000 * SECOND, **settings: Any) -> IssuedKey:
        name = f"test-{secrets.token_hex(6)}"
        self.registry.create_tenant(Tenant(id=name, **{"interval": 1000, "burst": 1000, **settings}))
        self.made.append(name)
        if credit:
            self.parts.wallet.credit(name, credit, reference="test")
        return self.clients.create(name)

    def service(self, slug: str, service: int = 1) -> int:
        """Return the public id of a provider's service."""
        return service * 1000 + self.registry.provider(slug).number

    def run_job(self, name: str) -> dict[str, Any]:
        """Let a scheduled Lambda run now; ``name`` as in ``app``."""
        functions: Any = self.aws.session.client("lambda", endpoint_url=self.aws.endpoint)
        found = [item["FunctionName"] for item in functions.list_functions()["Functions"]]
        [function] = [one for one in found if name.replace("_", "") in one.replace("_", "").lower()]
        reply = functions.invoke(FunctionName=function, Payload=json.dumps(_SCHEDULED).encode())
        assert "FunctionError" not in reply, reply["Payload"].read()
        counts: dict[str, Any] = json.loads(reply["Payload"].read())
        return counts

    def v2(self, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.api_url}/v2", data=fields, timeout=40, trust_env=False)

    def v3(self, key: str, /, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        return httpx.post(
            f"{self.api_url}/v3",
            json=fields,
            headers={"Authorization": f"Bearer {key}", **(headers or {})},
            timeout=40,
            trust_env=False,
        )


def _quiet(_message: str) -> None:
    """Tell nobody how it goes on."""


@contextmanager
def _in_account(stage: str) -> Iterator[Deployment]:
    """Yield a stage that is there; what the tests made in it is suspended afterwards."""
    aws = Aws.real(os.environ.get("AWS_ENDPOINT_URL"))
    parts = wire(Settings(stage), session=aws.session, endpoint=aws.endpoint)
    sandbox_url = os.environ.get("PANELGATE_SANDBOX_URL", "")
    running = Deployment(deployed_api_url(aws, stage), stage, aws, parts, sandbox_url, None)
    try:
        yield running
    finally:
        for name in running.made:
            running.registry.set_active(name, active=False)


@contextmanager
def _on_this_machine(folder: Path) -> Iterator[Deployment]:
    """Yield a local system that ends with the tests."""
    local = LocalSystem(folder)
    facts = local.up(_quiet)
    try:
        aws = Aws.emulated(facts.aws_endpoint)
        parts = wire(Settings("local"), session=aws.session, endpoint=aws.endpoint)
        yield Deployment(facts.api_url, "local", aws, parts, facts.sandbox_url, local)
    finally:
        local.down(_quiet, erase=True)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    stage = os.environ.get("PANELGATE_STAGE")
    with _in_account(stage) if stage else _on_this_machine(tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture
def panels(deployment: Deployment) -> Iterator[Callable[[str], SandboxPanel]]:
    """Return the sandbox panels; whatever a test does to them ends with it."""
    known = {provider.slug: provider.url for provider in deployment.registry.providers()}
    strange = [
        panel.slug
        for panel in PANELS
        if not deployment.sandbox_url or not known.get(panel.slug, "").startswith(deployment.sandbox_url)
    ]
    if strange:
        pytest.skip(f"not sandbox panels, and an order would cost money: {', '.join(strange)}")
    yield deployment.panel
    for panel in PANELS:
        deployment.panel(panel.slug).calm()


@pytest.fixture
def local(deployment: Deployment) -> LocalSystem:
    if deployment.local is None:
        pytest.skip("only the emulator shows this")
    return deployment.local


def eventually(check: Callable[[], bool], seconds: float = 20) -> bool:
    """Return whether a check comes true in time."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
