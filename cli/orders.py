"""`panelgate orders`: what became of the tenants' purchases."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import click

from chalicelib import money
from chalicelib.model import Order, OrderState, OrderStatus
from chalicelib.ports import SECOND
from cli.console import Console, Failure, Group, pass_console
from cli.options import ORDER, SLUG, Table, facts, moment

UNSETTLED = {
    OrderState.SENDING: OrderStatus.PENDING,
    OrderState.UNKNOWN: OrderStatus.PENDING,
    OrderState.PLACED: OrderStatus.PENDING,
    OrderState.REJECTED: OrderStatus.CANCELED,
    OrderState.NOT_PLACED: OrderStatus.CANCELED,
}
"""The status of an order whose panel has not been asked for one."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What judging an order takes: the time, and each provider's quiet period in seconds."""

    now: int
    quiet: Mapping[str, int]
    usual_quiet: int

    @classmethod
    def of(cls, console: Console) -> "Desk":
        """Return it as it is now."""
        quiet = {provider.slug: provider.quiet for provider in console.registry.providers()}
        return cls(console.parts.clock.now(), quiet, console.parts.settings.quiet)

    def needs_decision(self, order: Order) -> bool:
        """Whether an order's outcome is still unknown after its provider's quiet period."""
        quiet = self.quiet.get(order.provider, self.usual_quiet) * SECOND
        return order.state is OrderState.UNKNOWN and self.now > order.attempt.send_by + quiet

    def document(self, order: Order) -> dict[str, Any]:
        """Return what there is to know about an order."""
        reading = order.reading
        return {
            "order": order.id,
            "tenant": order.tenant,
            "client": order.client,
            "provider": order.provider,
            "provider_order": order.provider_order,
            "state": order.state.value,
            "status": (reading.status if reading else UNSETTLED[order.state]).value,
            "needs_decision": self.needs_decision(order),
            "service": order.public_service,
            "provider_service": order.service,
            "type": order.type,
            "link": order.link,
            "quantity": order.quantity,
            "runs": order.runs,
            "interval": order.interval,
            "extra": dict(order.extra),
            "charge": money.amount(order.price),
            "funding": order.funding.value,
            "start_count": reading.start_count if reading else None,
            "remains": reading.remains if reading else None,
            "idempotency_key": order.idempotency_key,
            "pending_order": order.pending_order,
            "refunded": money.amount(order.refunded),
            "held": None if order.held is None else money.amount(order.held),
            "children": {str(number): ours for number, ours in order.children.items()},
            "parent": order.parent,
            "refusal": dict(order.refusal) if order.refusal else None,
            "created_at": moment(order.created),
            "updated_at": moment(order.updated),
            "attempts": _attempts(order),
            "evidence": list(order.evidence),
            "history": _history(order),
        }


def _attempts(order: Order) -> list[dict[str, Any]]:
    """Return the permissions to send that there were; the record keeps the details of the last one."""
    earlier = [{"number": number, "key_version": None, "send_by": None} for number in range(1, order.attempts)]
    last = {
        "number": order.attempts,
        "key_version": order.attempt.key_version or None,
        "send_by": moment(order.attempt.send_by),
    }
    return [*earlier, last]


def _history(order: Order) -> list[dict[str, Any]]:
    """Return what the record tells of the order's life, oldest first."""
    life: list[dict[str, Any]] = [{"at": moment(order.created), "state": OrderState.SENDING.value}]
    if order.state is not OrderState.SENDING:
        life.append({"at": moment(order.updated), "state": order.state.value})
    if order.reading:
        life.append({"at": moment(order.reading.at), "status": order.reading.status.value})
    return life


@click.group("orders", cls=Group)
def orders_command() -> None:
    """The orders of the tenants."""


@orders_command.command("list")
@click.option("--tenant", type=SLUG, help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@pass_console
def list_orders(console: Console, tenant: str | None, limit: int) -> None:
    """List orders, newest first."""
    tenants = [console.registry.tenant(tenant)] if tenant else console.registry.tenants()
    streams = [console.parts.orders.page(one.id) for one in tenants]
    found = list(islice(heapq.merge(*streams, key=lambda order: order.created, reverse=True), limit))
    desk = Desk.of(console)
    rows: list[tuple[object, ...]] = [
        (one.id, one.tenant, one.provider, one.provider_order, one.state, money.text(one.price), moment(one.created))
        for one in found
    ]
    headings = ("order", "tenant", "provider", "its order", "state", "charge", "created")
    console.emit({"orders": [desk.document(order) for order in found]}, str(Table(headings, rows)))


@orders_command.command()
@click.argument("tenant", type=SLUG)
@click.argument("order", metavar="ID", type=ORDER)
@pass_console
def show(console: Console, tenant: str, order: int) -> None:
    """Print all that is known of one order."""
    console.registry.tenant(tenant)
    found = console.parts.orders.get(tenant, order)
    if found is None:
        raise Failure(f"{tenant} has no order {order}. `panelgate orders list --tenant {tenant}` lists them.")
    shown = Desk.of(console).document(found)
    console.emit(shown, facts({**shown, "attempts": len(shown["attempts"]), "history": _life(shown["history"])}))


def _life(history: list[dict[str, Any]]) -> list[str]:
    return [f"{event['at']} {event.get('state') or event['status']}" for event in history]
