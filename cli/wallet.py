"""`panelgate wallet`: the tenants' money."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from chalicelib import money
from cli.acts import Trace
from cli.console import Console, Group, pass_console
from cli.options import AMOUNT, REFERENCE, SLUG
from cli.text import Rows, facts, moment

CURRENCY = "USD"
KINDS = ("credit", "hold", "capture", "release", "refund")
"""In the order in which they can follow one another in the same moment."""


@click.group("wallet", cls=Group)
def wallet_command() -> None:
    """The tenants' money."""


@wallet_command.command(trace=Trace.NONE)
@click.argument("tenant", type=SLUG)
@pass_console
def show(console: Console, tenant: str) -> None:
    """Print what a tenant has; held money belongs to orders whose outcome is not known yet."""
    console.registry.tenant(tenant)
    shown = _document(console, tenant)
    console.emit(shown, facts(shown))


@wallet_command.command()
@click.argument("tenant", type=SLUG)
@click.argument("amount", type=AMOUNT)
@click.option("--reference", type=REFERENCE, required=True, help="What tells this payment from all others.")
@pass_console
def credit(console: Console, tenant: str, amount: int, reference: str) -> None:
    """Add money, once per reference: it is safe to repeat."""
    console.registry.tenant(tenant)
    is_new = console.parts.wallet.credit(tenant, amount, reference=reference)
    console.note(repeated=not is_new)
    shown = _document(console, tenant)
    outcome = "were added" if is_new else "had been added under this reference before; nothing was added now"
    console.emit(
        {"tenant": tenant, "reference": reference, "credited": money.amount(amount), "repeated": not is_new, **shown},
        f"{money.text(amount)} {CURRENCY} {outcome}.\n{facts(shown)}",
    )


@wallet_command.command(trace=Trace.NONE)
@click.argument("tenant", type=SLUG)
@pass_console
def ledger(console: Console, tenant: str) -> None:
    """Print every movement of a tenant's money by time, with the balance after it."""
    console.registry.tenant(tenant)
    movements = console.parts.wallet.ledger(tenant)
    entries = _entries(sorted(movements, key=lambda one: (one["at"], KINDS.index(one["kind"]))))
    rows = [tuple(entry.values()) for entry in entries]
    console.emit(
        {"tenant": tenant, "currency": CURRENCY, "entries": entries},
        str(Rows(("at", "kind", "of", "amount", "held", "balance"), rows)),
    )


def _entries(movements: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the movements as they are shown: ``of`` is an order or a payment, ``held`` what the orders keep back."""
    balance = held = 0
    entries = []
    for movement in movements:
        balance, held = balance + movement["available"], held + movement["held"]
        entries.append(
            {
                "at": moment(movement["at"]),
                "kind": movement["kind"],
                "of": movement["id"],
                "amount": money.amount(movement["available"]),
                "held": money.amount(held),
                "balance": money.amount(balance),
            }
        )
    return entries


def _document(console: Console, tenant: str) -> dict[str, object]:
    balances = console.parts.wallet.balances(tenant)
    return {
        "balance": money.amount(balances.available),
        "held": money.amount(balances.held),
        "currency": CURRENCY,
    }
