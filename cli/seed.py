"""Puts the five sandbox panels and a demo tenant into a stage, for `panelgate local up`. It may be run again."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from chalicelib.aws.clients import Clients
from chalicelib.aws.registry import Missing, Registry
from chalicelib.errors import Unavailable
from chalicelib.jobs import sync_catalog
from chalicelib.keys import parse_client_key
from chalicelib.model import Account, Provider, Tenant
from chalicelib.ports import Stranger
from chalicelib.settings import Settings
from chalicelib.wiring import Parts, build
from cli.console import Aws
from cli.providers import new_provider

DEMO = "demo"
DEMO_CREDIT = 100_000_000
"""In micro-USD."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the sandbox."""

    slug: str
    dialect: str
    path: str

    @property
    def key(self) -> str:
        """The key that it knows; it opens nothing but a pretence."""
        return f"sandbox-{self.slug}-key"


# In the order of the seed documents: the providers' numbers follow it.
PANELS = (
    Panel("smmafrica", "smmafrica", "smmafrica/api/v3"),
    Panel("smosale", "perfectpanel", "smosale/api/v2"),
    Panel("smmrich", "perfectpanel", "smmrich/api/v2"),
    Panel("mysticsmm", "mysticsmm", "mysticsmm/api/v2"),
    Panel("smmleaf", "perfectpanel", "smmleaf/api/v2"),
)


def _silent(_message: str) -> None:
    """Tell nobody."""


def seed(
    *,
    endpoint: str | None,
    stage: str,
    sandbox_url: str,
    previous_key: str | None = None,
    progress: Callable[[str], None] = _silent,
) -> str:
    """Make what is missing of the providers and the demo tenant, and return a key of the tenant.

    Args:
        endpoint: of the emulated AWS; None for what the environment configures.
        stage: whose table and secrets.
        sandbox_url: where the sandbox panels are now; providers that point elsewhere are corrected.
        previous_key: what an earlier call returned; it is returned again if it still works.
        progress: told what takes time.
    """
    aws = Aws.emulated(endpoint) if endpoint else Aws.real()
    parts = build(Settings(stage), session=aws.session, endpoint=aws.endpoint)
    registry = Registry(parts.table)
    known = {provider.slug: provider for provider in registry.providers()}
    providers = [_register(registry, parts, known.get(panel.slug), panel, sandbox_url) for panel in PANELS]
    with ThreadPoolExecutor(len(PANELS)) as threads:
        for done in threads.map(lambda pair: _supply(parts, *pair), zip(PANELS, providers, strict=True)):
            if done:
                progress(done)
    return _demo_key(registry, parts, previous_key)


def _register(registry: Registry, parts: Parts, known: Provider | None, panel: Panel, sandbox_url: str) -> Provider:
    """Store a panel's configuration, unless it is there; numbers depend on the order of these calls."""
    url = f"{sandbox_url.rstrip('/')}/{panel.path}"
    if known is None:
        return registry.add_provider(new_provider(parts.settings, panel.slug, panel.dialect, url))
    if known.url == url:
        return known
    return registry.change_provider(panel.slug, partial(replace, url=url))


def _supply(parts: Parts, panel: Panel, provider: Provider) -> str | None:
    """Store a panel's key and catalog, unless they are there."""
    try:
        parts.vault.key(Account(panel.slug))
    except Unavailable:
        pending = parts.vault.store_pending(Account(panel.slug), panel.key, token=str(uuid.uuid4()))
        parts.vault.promote(Account(panel.slug), pending.version)
    if parts.catalog.synced(panel.slug) is not None:
        return None
    report = sync_catalog(parts, provider)
    return f"{panel.slug}: {report.total} services"


def _demo_key(registry: Registry, parts: Parts, previous_key: str | None) -> str:
    try:
        registry.tenant(DEMO)
    except Missing:
        registry.create_tenant(Tenant(id=DEMO))
    parts.wallet.credit(DEMO, DEMO_CREDIT, reference=DEMO)
    if previous_key and _works(parts, previous_key):
        return previous_key
    clients = Clients(parts.table)
    lost = [client for client in clients.of(DEMO) if client.name == DEMO and not client.revoked]
    for client in lost:  # nobody has their keys any more, and a tenant has room for 20
        clients.revoke(client.id)
    return clients.create(DEMO, name=DEMO).key


def _works(parts: Parts, text: str) -> bool:
    key = parse_client_key(text)
    if key is None or key.tenant != DEMO:
        return False
    return not isinstance(parts.directory.admit(key, now=parts.clock.now()), Stranger)
