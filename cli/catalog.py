"""`panelgate catalog`: the providers' services as they were last synced."""

from collections.abc import Sequence
from typing import Any

import click

from chalicelib.aws.catalog import SyncReport
from chalicelib.errors import PanelgateError
from chalicelib.jobs import sync_catalog
from chalicelib.model import Provider, Service
from cli.acts import Trace
from cli.console import Console, Failure, Group, pass_console
from cli.options import SLUG
from cli.text import Rows, moment, plain


@click.group("catalog", cls=Group)
def catalog_command() -> None:
    """The services of the providers."""


@catalog_command.command()
@click.argument("provider", type=SLUG, required=False)
@pass_console
def sync(console: Console, provider: str | None) -> None:
    """Fetch the services of one provider, or of all that are enabled."""
    chosen = [console.registry.provider(provider)] if provider else _enabled(console)
    reports, failures = [], []
    for one in chosen:
        try:
            reports.append(_report(one, sync_catalog(console.parts, one)))
        except PanelgateError as error:
            failures.append(f"{one.slug} ({error})")
        else:
            console.progress(f"{one.slug}: {reports[-1]['services']} services")
            for sentence in reports[-1]["left_out"]:
                console.progress(f"  left out: {plain(sentence)}")
    if failures:
        raise Failure(f"Not synced: {', '.join(failures)}. What was stored of them stays.")
    rows: list[tuple[object, ...]] = [tuple(report.values())[:5] for report in reports]
    console.emit({"synced": reports}, str(Rows(("provider", "services", "written", "removed", "at"), rows)))


def _enabled(console: Console) -> Sequence[Provider]:
    return [provider for provider in console.registry.providers() if provider.enabled]


def _report(provider: Provider, report: SyncReport) -> dict[str, Any]:
    return {
        "provider": provider.slug,
        "services": report.total,
        "written": report.written,
        "removed": report.removed,
        "at": moment(report.at),
        "left_out": list(report.left_out),
    }


@catalog_command.command(trace=Trace.NONE)
@click.argument("provider", type=SLUG)
@pass_console
def show(console: Console, provider: str) -> None:
    """Print the services of a provider, with its own prices."""
    found = console.registry.provider(provider)
    catalog = console.parts.catalog
    listing = catalog.listings([provider]).get(provider)
    if listing is None:
        raise Failure(f"The catalog of {provider} was never synced. Run `panelgate catalog sync {provider}`.")
    rows: list[tuple[object, ...]] = [
        (one.id, found.global_id(one.id), one.name, one.type, one.rate, one.min, one.max) for one in listing.services
    ]
    console.emit(
        {
            "provider": provider,
            "currency": found.currency,
            "synced": moment(catalog.synced(provider)),
            "services": [_document(found, service) for service in listing.services],
        },
        str(Rows(("id", "public id", "name", "type", f"{found.currency} per 1000", "min", "max"), rows)),
    )


def _document(provider: Provider, service: Service) -> dict[str, Any]:
    return {
        "id": service.id,
        "service": provider.global_id(service.id),
        "name": service.name,
        "type": service.type,
        "category": service.category,
        "rate": plain(service.rate),
        "min": service.min,
        "max": service.max,
        "refill": service.refill,
        "cancel": service.cancel,
        "dripfeed": bool(service.dripfeed),
    }
