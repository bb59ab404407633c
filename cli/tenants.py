"""`panelgate tenants`: whom the gateway serves."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import click

from chalicelib import money
from chalicelib.model import Funding, Ids, Tenant
from cli.acts import Trace
from cli.console import Console, Failure, Group, pass_console
from cli.options import DEDUPE, LIMIT, ORIGINS, PERCENT, RATE, SERVICES, SLUG, SLUGS, stacked
from cli.text import Rows, duration_text, facts, percent_text, rate_text

READERS: Mapping[str, Callable[[Any], object]] = {
    "funding": Funding,
    "ids": Ids,
    "providers": lambda names: frozenset(names) or None,
    "services": lambda numbers: frozenset(numbers) or None,
    "origins": frozenset,
    "daily_spend": lambda micros: micros or None,
}
"""How options become fields where they are not the same."""

_COLUMNS = ("tenant", "active", "funding", "rate", "markup", "daily spend", "one per link", "providers")

_settings = stacked(
    click.option("--funding", type=click.Choice([one.value for one in Funding]), help="Whose money orders spend."),
    click.option("--rate", "interval", type=RATE, help="Requests that are admitted: 10/s, 300/m."),
    click.option("--burst", type=click.IntRange(1, 10_000), help="Requests that may come at once."),
    click.option("--markup", type=PERCENT, help="What is added to the providers' prices: 10%."),
    click.option("--providers", type=SLUGS, help="The only providers it may use; `all` for every one."),
    click.option("--services", type=SERVICES, help="The only services it may use; `all` for every one."),
    click.option("--origins", type=ORIGINS, help="Web origins that may call for it; `none` for none."),
    click.option("--daily-spend", type=LIMIT, help="USD that its orders of a UTC day may cost: 50; `none` ends it."),
    click.option("--dedupe", type=DEDUPE, help="Window in which equal orders without a key are one: 120s; 0s ends it."),
    click.option(
        "--require-idempotency/--no-require-idempotency", default=None, help="Refuse orders without a key: yes or no."
    ),
    click.option(
        "--refuse-duplicate-link/--no-refuse-duplicate-link",
        default=None,
        help="Refuse a second active order for a service and a link: yes or no.",
    ),
    click.option(
        "--ids",
        type=click.Choice([one.value for one in Ids]),
        help="Service ids: the gateway's, or those of its one provider.",
    ),
)


@click.group("tenants", cls=Group)
def tenants_command() -> None:
    """Resellers and applications that this gateway serves."""


@tenants_command.command()
@click.argument("tenant", metavar="ID", type=SLUG)
@_settings
@pass_console
def create(console: Console, /, tenant: str, **given: object) -> None:
    """Create a tenant; `clients create` then makes a key for it.

    Without options: funded by a wallet, 10/s with a burst of 20, no markup, all providers and services, global ids.
    """
    new = _changed(console, Tenant(id=tenant), given)
    console.registry.create_tenant(new)
    shown = document(new)
    console.emit(shown, f"{_lines(shown)}\n\nNext: `panelgate clients create {tenant}`.")


@tenants_command.command("set")
@click.argument("tenant", metavar="ID", type=SLUG)
@_settings
@pass_console
def change(console: Console, /, tenant: str, **given: object) -> None:
    """Change settings of a tenant; they hold from its next request on."""
    if all(value is None for value in given.values()):
        raise click.UsageError("Say what to change, for example --rate 20/s.")
    _emit(console, console.registry.change_tenant(tenant, lambda stored: _changed(console, stored, given)))


def _changed(console: Console, tenant: Tenant, given: Mapping[str, Any]) -> Tenant:
    """Return a tenant with the options that were given."""
    changes = {name: READERS.get(name, _as_is)(value) for name, value in given.items() if value is not None}
    changed: Tenant = replace(tenant, **changes)  # type: ignore[arg-type]  # READERS makes the fields' types
    _check_single_provider(changed)
    if given["providers"]:
        check_providers(console, given["providers"])
    return changed


def _as_is(value: object) -> object:
    return value


def _check_single_provider(tenant: Tenant) -> None:
    reasons = {"--funding provider": tenant.funding is Funding.PROVIDER, "--ids native": tenant.ids is Ids.NATIVE}
    reason = next((option for option, chosen in reasons.items() if chosen), None)
    if reason and len(tenant.providers or ()) != 1:
        raise click.UsageError(f"{reason} needs exactly one provider: add --providers with its name.")


def check_providers(console: Console, names: tuple[str, ...]) -> None:
    """Refuse names that no provider has."""
    known = sorted(provider.slug for provider in console.registry.providers())
    unknown = [name for name in names if name not in known]
    if unknown:
        there_are = f"There are: {', '.join(known)}." if known else "There is none yet: `panelgate providers add`."
        raise Failure(f"There is no provider {', '.join(unknown)}. {there_are}")


def _emit(console: Console, tenant: Tenant) -> None:
    shown = document(tenant)
    console.emit(shown, _lines(shown))


@tenants_command.command("list", trace=Trace.NONE)
@pass_console
def list_all(console: Console) -> None:
    """List all tenants."""
    found = console.registry.tenants()
    rows: list[tuple[object, ...]] = [
        (
            one.id,
            one.active,
            one.funding,
            rate_text(one.interval),
            percent_text(one.markup),
            _limit(one) or "none",
            one.refuse_duplicate_link,
            _listed(one.providers) or "all",
        )
        for one in found
    ]
    console.emit(
        {"tenants": [document(tenant) for tenant in found]},
        str(Rows(_COLUMNS, rows)),
    )


def _limit(tenant: Tenant) -> Decimal | None:
    """Return in USD what a tenant's orders of a day may cost."""
    return None if tenant.daily_spend is None else money.amount(tenant.daily_spend)


def _listed(names: frozenset[Any] | None) -> list[Any] | None:
    return None if names is None else sorted(names)


@tenants_command.command(trace=Trace.NONE)
@click.argument("tenant", metavar="ID", type=SLUG)
@pass_console
def show(console: Console, tenant: str) -> None:
    """Print one tenant's settings."""
    _emit(console, console.registry.tenant(tenant))


@tenants_command.command()
@click.argument("tenant", metavar="ID", type=SLUG)
@pass_console
def suspend(console: Console, tenant: str) -> None:
    """Refuse a tenant's requests from the next one on."""
    _emit(console, console.registry.set_active(tenant, active=False))


@tenants_command.command()
@click.argument("tenant", metavar="ID", type=SLUG)
@pass_console
def resume(console: Console, tenant: str) -> None:
    """Admit a suspended tenant's requests again."""
    _emit(console, console.registry.set_active(tenant, active=True))


def _lines(shown: Mapping[str, Any]) -> str:
    """Return a tenant's document for people."""
    absent = dict.fromkeys(shown, "all") | {"daily_spend": "none"}
    return facts({name: absent[name] if value is None else value for name, value in shown.items()})


def document(tenant: Tenant) -> dict[str, Any]:
    """Return what there is to know about a tenant, spelled as the options are; null means all, or no limit."""
    return {
        "tenant": tenant.id,
        "active": tenant.active,
        "funding": tenant.funding.value,
        "ids": tenant.ids.value,
        "rate": rate_text(tenant.interval),
        "burst": tenant.burst,
        "markup": percent_text(tenant.markup),
        "providers": _listed(tenant.providers),
        "services": _listed(tenant.services),
        "origins": sorted(tenant.origins),
        "require_idempotency": tenant.require_idempotency,
        "dedupe": duration_text(tenant.dedupe),
        "daily_spend": _limit(tenant),
        "refuse_duplicate_link": tenant.refuse_duplicate_link,
        "own_keys": sorted(tenant.own_keys),
    }
