"""`panelgate orders`: what became of the tenants' purchases."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

import click

from chalicelib import money
from chalicelib.actions import Action, Placed, Reason, Refused, Status
from chalicelib.aws.table import PATIENCE
from chalicelib.batching import READ_TIME, Outcome, Patience
from chalicelib.clock import SECOND
from chalicelib.errors import AlreadyBound
from chalicelib.evidence import confirms, last_charge
from chalicelib.jobs import needing_decision
from chalicelib.model import Account, Order, OrderState, OrderStatus, Source
from chalicelib.order_types import quoted
from chalicelib.settlement import needs_decision
from cli.acts import Trace
from cli.console import Console, Failure, Group, pass_console
from cli.options import ORDER, PROVIDER_ORDER, REFUND, SLUG
from cli.text import Rows, facts, moment

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
        """Whether an order is in the operator's queue."""
        return needs_decision(order, self.quiet_of(order.provider), self.now)

    def quiet_of(self, provider: str) -> int:
        """Return a provider's quiet period in seconds."""
        return self.quiet.get(provider, self.usual_quiet)

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
            "own_key": order.own_key,
            "start_count": reading.start_count if reading else None,
            "remains": reading.remains if reading else None,
            "idempotency_key": order.idempotency_key,
            "pending_order": order.pending_order,
            "late_order": order.late_order,
            "provider_quote": _plain(quoted(order)),
            "provider_charge": _plain(last_charge(order)),
            "refunded": money.amount(order.refunded),
            "refund_open": order.refund_open,
            "refund_decided": None if order.refund_decided is None else money.amount(order.refund_decided),
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
    """Return the permissions to send that there were; of the earlier ones the record keeps the key's version."""
    keys = {**dict(enumerate(order.earlier_keys, start=1)), order.attempts: order.attempt.key_version}
    send_by = {order.attempts: moment(order.attempt.send_by)}
    return [
        {"number": number, "key_version": keys.get(number) or None, "send_by": send_by.get(number)}
        for number in range(1, order.attempts + 1)
    ]


def _history(order: Order) -> list[dict[str, Any]]:
    """Return the order's life, oldest first."""
    return [
        {
            "at": moment(change.at),
            "source": change.source.value,
            "state" if isinstance(change.now, OrderState) else "status": change.now.value,
        }
        for change in order.journal
    ]


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"


def refuse_unsettled(console: Console, provider: str, accounts: Iterable[Account]) -> None:
    """Refuse what would keep the orders of some accounts at a provider from being settled.

    Raises:
        Failure: there are orders there whose purchase is not known.
    """
    unsettled = sum(1 for account in accounts for _ in console.parts.orders.unsettled(account))
    if unsettled:
        raise Failure(
            f"{unsettled} orders at {provider} are not settled. Wait, or decide them first:"
            " `orders list --needs-decision`, `orders resolve`."
        )


@click.group("orders", cls=Group)
def orders_command() -> None:
    """The orders of the tenants."""


@orders_command.command("list", trace=Trace.NONE)
@click.option("--tenant", type=SLUG, help="Only this tenant's.")
@click.option("--needs-decision", "is_queue", is_flag=True, help="Only those that wait for `orders resolve`.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@pass_console
def list_orders(console: Console, tenant: str | None, *, is_queue: bool, limit: int) -> None:
    """List orders, newest first."""
    tenants = [console.registry.tenant(tenant)] if tenant else console.registry.tenants()
    if is_queue:
        names = {one.id for one in tenants}
        queue = [order for order in needing_decision(console.parts) if order.tenant in names]
        found = sorted(queue, key=lambda order: order.created, reverse=True)[:limit]
    else:
        streams = [console.parts.orders.page(one.id) for one in tenants]
        found = list(islice(heapq.merge(*streams, key=lambda order: order.created, reverse=True), limit))
    desk = Desk.of(console)
    rows: list[tuple[object, ...]] = [
        (one.id, one.tenant, one.provider, one.provider_order, one.state, money.text(one.price), moment(one.created))
        for one in found
    ]
    headings: tuple[str, ...] = ("order", "tenant", "provider", "its order", "state", "charge", "created")
    if is_queue:
        headings = (*headings, "last evidence")
        rows = [(*row, one.evidence[-1] if one.evidence else None) for row, one in zip(rows, found, strict=True)]
    console.emit({"orders": [desk.document(order) for order in found]}, str(Rows(headings, rows)))


@orders_command.command(trace=Trace.NONE)
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
    return [f"{event['at']} {event.get('state') or event['status']} ({event['source']})" for event in history]


@orders_command.command()
@click.argument("tenant", type=SLUG)
@click.argument("order", metavar="ID", type=ORDER)
@click.option(
    "--provider-order", "number", metavar="N", type=PROVIDER_ORDER, help="It was placed: the provider's number of it."
)
@click.option("--not-placed", is_flag=True, help="It was never placed: its money goes back.")
@click.option(
    "--refund", metavar="AMOUNT", type=REFUND, help="It has ended: so much of its charge goes back now, in USD."
)
@pass_console
def resolve(  # noqa: PLR0913 - three ways to decide
    console: Console, tenant: str, order: int, *, number: int | None, not_placed: bool, refund: int | None
) -> None:
    """Decide what became of an order.

    Its outcome is not known, it was delivered late, or its panel has ended it without a word of what goes back.

    Look at the provider's own panel first; `orders show` tells what speaks for what. It is safe to repeat.
    """
    if [number is not None, not_placed, refund is not None].count(True) != 1:
        raise click.UsageError("Say one of --provider-order N, --not-placed and --refund AMOUNT.")
    console.registry.tenant(tenant)
    found = console.parts.orders.get(tenant, order)
    if found is None:
        raise Failure(f"{tenant} has no order {order}. `panelgate orders list --tenant {tenant}` lists them.")
    told = f"{tenant}'s order {order} is"
    if refund is not None:
        told = f"{_pay_back(console, found, refund)}\n{told}"
    elif number is not None:
        _place(console, found, number)
    else:
        _give_up(console, found)
    resolved = console.parts.orders.get(tenant, order)
    shown = Desk.of(console).document(resolved or found)
    console.emit(shown, f"{told} {shown['state']}.")


def _pay_back(console: Console, order: Order, amount: int) -> str:
    """Give back what goes back of an order; say whether that was done now."""
    is_repeated = not order.refund_open and order.refund_decided == amount
    console.note(repeated=is_repeated)
    if is_repeated:
        return f"{money.text(amount)} USD had gone back by this decision before; nothing moved now."
    if not order.refund_open:
        raise Failure("No refund of it waits for a decision. `panelgate orders show` tells what went back.")
    left = order.charge - order.refunded
    if amount > left:
        raise Failure(f"At most {money.text(left)} USD can go back: what it cost, less what went back before.")
    if not console.parts.orders.decide_refund(order, amount, until=console.parts.clock.now() + PATIENCE):
        raise Failure("It has changed meanwhile. Look at it again: `panelgate orders show`.")
    return f"{money.text(amount)} USD went back."


def _give_up(console: Console, order: Order) -> None:
    desk, until = Desk.of(console), console.parts.clock.now() + PATIENCE
    if order.state is OrderState.NOT_PLACED:
        if order.late_order is not None and not console.parts.orders.accept_loss(order, until=until):
            raise Failure("It has changed meanwhile. Look at it again: `panelgate orders show`.")
        return
    if order.state is not OrderState.UNKNOWN:
        raise Failure(_decided(order))
    if order.pending_order is not None and _is_confirmed(console, order, order.pending_order):
        raise Failure(
            f"{order.provider} has it as its order {order.pending_order}. Say --provider-order {order.pending_order}."
        )
    if not desk.needs_decision(order):
        end = moment(order.attempt.send_by + desk.quiet_of(order.provider) * SECOND)
        raise Failure(f"{order.provider} may still place it: its quiet period lasts until {end}. Wait for that.")
    if not console.parts.orders.give_up(order, "the operator decided", until=until, source=Source.OPERATOR):
        raise Failure("It was settled meanwhile. Look at it again: `panelgate orders show`.")


def _place(console: Console, order: Order, number: int) -> None:
    if order.state is OrderState.PLACED and order.provider_order == number:
        return
    if order.state not in (OrderState.UNKNOWN, OrderState.NOT_PLACED):
        raise Failure(_decided(order))
    if order.late_order not in (None, number):
        raise Failure(f"It was delivered late as {order.provider}'s order {order.late_order}, not {number}.")
    _check_number(console, order, number)
    orders, until = console.parts.orders, console.parts.clock.now() + PATIENCE
    try:
        if order.state is OrderState.NOT_PLACED:
            is_placed = orders.restore(order, number, until=until)
        else:
            sentence = f"the operator found it as the provider's order {number}"
            is_placed = orders.place(order, Placed(number), until=until, source=Source.OPERATOR, evidence=sentence)
    except AlreadyBound:
        raise Failure(f"{order.provider}'s order {number} belongs to another order. Check the number.") from None
    if not is_placed:
        raise Failure(
            "It could not be placed: it has changed meanwhile, the number belongs to another order, or, where its money"
            " had gone back, the wallet does not hold its charge or it is a subscription. Look at it again:"
            " `panelgate orders show`."
        )


def _check_number(console: Console, order: Order, number: int) -> None:
    """Refuse a number that the provider does not know; one that cannot be asked is believed."""
    waiting = [one for one in console.parts.orders.unsettled(order.account) if one.pending_order == number]
    if waiting and order.name not in {one.name for one in waiting}:
        one = waiting[0]
        raise Failure(f"{order.provider} gave its number {number} to {one.tenant}'s order {one.id}. Check the number.")
    answer = _asked(console, order, number)
    if isinstance(answer, Refused) and answer.reason is Reason.ORDER:
        raise Failure(
            f"{order.provider} has no order {number} under the key that bought it ({answer.text}). Check the number."
        )
    if not isinstance(answer, Status):
        console.progress(f"{order.provider} could not be asked about its order {number}; you are believed.")


def _is_confirmed(console: Console, order: Order, number: int) -> bool:
    answer = _asked(console, order, number)
    return isinstance(answer, Status) and confirms(answer)


def _asked(console: Console, order: Order, number: int) -> Outcome:
    patience = Patience(PATIENCE, console.parts.clock.now() + READ_TIME)
    return console.parts.settlement.batcher.ask(order.account, Action.STATUS, [number], patience)[number]


def _decided(order: Order) -> str:
    if order.state is OrderState.SENDING:
        return "It is still being sent. Wait two minutes and look again: `panelgate orders show`."
    if order.refund_open:
        return f"It is {order.state.value} already; what is open is its refund. Say --refund AMOUNT."
    return f"It is {order.state.value} already; there is nothing to decide."
