"""One panel, one tenant, and a judge: what was bought is counted at the panel, what is known of it at the gateway.

Whatever befell the containers, ``settle_down`` lets time pass and the schedules run until nothing moves, and ``judge``
compares the two.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from chalicelib import money
from chalicelib.clock import MINUTE, SECOND, Clock
from chalicelib.commands import AddCommand, AnyCommand, StatusCommand
from chalicelib.errors import Code, NeverSent, PanelgateError, Refusal
from chalicelib.gateway import Credentials, Result
from chalicelib.jobs import needing_decision, settle_orders, sweep_orders
from chalicelib.model import Account, Order, OrderState
from chalicelib.panels.dialect import Reply, Request
from chalicelib.ports import Sender
from chalicelib.purchase import Deadline, Receipt
from chalicelib.session import Session
from chalicelib.wiring import Parts
from cli.chain import Record
from cli.console import Aws, Console
from cli.journal import Anchor, Journal
from cli.orders import orders_command
from sandbox.orders import Order as Sold
from sandbox.panel import Panel
from tests.faults import Killed, Wire
from tests.market import Market
from tests.stage import MovableClock, allowances, days
from tests.world import LINK

CREDIT = 1000 * SECOND
QUIET = 2 * MINUTE
# Minutes after which whatever can be settled is: a sender is given up, a quiet period passes, the evidence is read.
PATIENCE = 9
KILLED = "nothing"


@dataclass
class Verdict:
    """What is wrong, in words, and the micro-USD that are missing or too many."""

    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    difference: int = 0

    @property
    def broken(self) -> set[str]:
        """Return what of this there is."""
        return {name for name in ("doubled", "lost", "wrong", "difference") if getattr(self, name)}

    @property
    def is_good(self) -> bool:
        return not self.broken


@dataclass(frozen=True)
class Punctual:
    """A container's sender, which does not begin to send when that is too late by the container's own clock."""

    real: Sender
    clock: Clock

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        if send_by is not None and self.clock.now() >= send_by * SECOND:
            raise NeverSent("no time left to send")
        return self.real.send(url, request, deadline=deadline, send_by=send_by)


class Unanchored(Anchor):
    """Keeps nothing: a stall has no log group."""

    def prepare(self) -> None:
        """Do nothing."""

    def write(self, record: Record, at: int) -> None:
        """Do nothing."""


@functools.cache
def _operators(endpoint: str) -> tuple[Aws, Unanchored]:
    aws = Aws.emulated(endpoint)
    return aws, Unanchored(aws.session.client("logs", endpoint_url=endpoint), "nowhere")


@dataclass
class Stall:
    """A market of one panel and one customer."""

    market: Market
    slug: str
    told: dict[str, str] = field(default_factory=dict)
    late: list[tuple[int, Callable[[], Any]]] = field(default_factory=list)

    @classmethod
    def new(cls, stage: str, dynamodb: Any, secrets: Any, slug: str = "smosale") -> "Stall":
        stall = cls(Market.new(stage, dynamodb, secrets, slugs=(slug,)), slug)
        stall.market.registry.change_provider(slug, partial(replace, exclusive_key=True, quiet=QUIET // SECOND))
        return stall

    @property
    def parts(self) -> Parts:
        return self.market.parts

    @property
    def time(self) -> MovableClock:
        return self.market.time

    @property
    def panel(self) -> Panel:
        return self.market.panel(self.slug)

    def container(self, wire: Wire | None = None, clock: Clock | None = None) -> Parts:
        """Return the stage as a cold container sees it."""
        table, secrets = self.parts.table.client, self.market.secrets
        clock = clock or self.parts.clock
        sender: Sender = Punctual(self.parts.sender, clock)
        if wire is not None:
            table, sender, secrets = wire.client(table), wire.sender(sender), wire.client(secrets)
        return self.market.twin(table, secrets, sender, clock)

    # -- what happens ----------------------------------------------------------------------------------------------

    def add(self, name: str, parts: Parts | None = None, *, quantity: int = 1000) -> str:
        """Buy under a key and a link that are called ``name``; return what the caller was told."""
        fields = {"service": self.service, "link": f"{LINK}/{name}", "quantity": quantity, "idempotency_key": name}
        parts = parts or self.parts
        with contextlib.suppress(Killed):
            self.told[name] = KILLED
            try:
                receipt = parts.gateway.execute(self.session(parts), AddCommand.read(fields))
            except Refusal as refusal:
                self.told[name] = refusal.code
            except PanelgateError:
                self.told[name] = Code.SERVICE_UNAVAILABLE
            else:
                assert isinstance(receipt, Receipt)
                self.told[name] = "pending" if receipt.pending else f"order {receipt.order}"
        return self.told[name]

    @property
    def service(self) -> int:
        return 1000 + self.market.registry.provider(self.slug).number

    def session(self, parts: Parts) -> Session:
        deadline = Deadline(parts.clock.now() + 25 * SECOND)
        session = parts.gateway.admit(Credentials(self.market.key, for_pages=True), deadline)
        if not isinstance(session, Session):
            raise session.refusal
        return session

    def status(self, parts: Parts) -> None:
        """Ask how the last order is doing."""
        self.request(parts, StatusCommand(order=self.orders()[0].id))

    def request(self, parts: Parts, command: AnyCommand) -> Result:
        """Ask for something that buys nothing."""
        return parts.gateway.execute(self.session(parts), command)

    def resolve(self, parts: Parts, *arguments: str, order: int | None = None) -> None:
        """Decide about an order, the last one if none is named, as the operator does; no fault meets the journal."""
        console = Console(self.parts.settings.stage)
        console.parts = parts
        console.aws, anchor = _operators(self.parts.table.client.meta.endpoint_url)
        console.journal = Journal(self.parts.table, anchor, console.stage)
        words = ["resolve", "acme", str(order or self.orders()[0].id), *arguments]
        orders_command.main(words, obj=console, standalone_mode=False)

    # -- what follows ----------------------------------------------------------------------------------------------

    def pass_time(self, time: int) -> None:
        """Let time pass, without jobs; what was late arrives."""
        self.time.at += time
        due = [one for one in self.late if one[0] <= self.time.at]
        self.late = [one for one in self.late if one not in due]
        for _, call in due:
            call()

    def jobs(self, parts: Parts | None = None) -> None:
        """Run the schedules once."""
        sweep_orders(parts or self.parts)
        settle_orders(parts or self.parts)

    def settle_down(self, minutes: int = PATIENCE) -> None:
        """Let time pass and the jobs run until everything is settled, and every order has ended and was seen to."""
        for _ in range(minutes):
            self.pass_time(MINUTE)
            self.jobs()
            if not self.late and not self.unsettled():
                break
        self.pass_time(5 * MINUTE)
        self.jobs()

    def unsettled(self) -> list[Order]:
        return list(self.parts.orders.unsettled(Account(self.slug)))

    def orders(self) -> list[Order]:
        """Return all orders, newest first."""
        return list(self.parts.orders.page("acme"))

    def queue(self) -> list[int]:
        """Return the orders that wait for the operator."""
        return [order.id for order in needing_decision(self.parts)]

    def money_of_all(self) -> int:
        return sum(self.market.money())

    # -- the judge -------------------------------------------------------------------------------------------------

    def sold(self) -> dict[str, list[Sold]]:
        """Return what the panel sold, by the name under which it was bought."""
        self.panel.funds()
        found: dict[str, list[Sold]] = {}
        for one in self.panel.orders.values():
            found.setdefault(one.link.removeprefix(f"{LINK}/"), []).append(one)
        return found

    def judge(self, *, at_rest: bool = True) -> Verdict:
        """Compare what the gateway says with what the panel sold; ``at_rest``: nothing is to come any more."""
        verdict, sold, orders = Verdict(), self.sold(), self.orders()
        verdict.doubled = [name for name, some in sold.items() if len(some) > 1]
        names = Counter(self.name(order) for order in orders if order.state is not OrderState.REJECTED)
        verdict.wrong += [f"{count} orders under the key {name}" for name, count in names.items() if count > 1]
        if at_rest:
            verdict.lost += [f"{name}: no order" for name in sold if not names[name]]
        for order in orders:
            self._judge_order(order, sold.get(self.name(order), []), verdict, at_rest=at_rest)
        self._judge_money(orders, sold, verdict, at_rest=at_rest)
        if at_rest:
            queue = self.queue()
            left = [order for order in self.unsettled() if order.id not in queue]
            left += [order for order in orders if order.state is OrderState.SENDING]
            verdict.wrong += [f"{self.name(order)}: neither settled nor in the queue" for order in left]
            self._judge_words(sold, verdict)
        return verdict

    @staticmethod
    def name(order: Order) -> str:
        return (order.link or "").removeprefix(f"{LINK}/")

    def _judge_order(self, order: Order, sold: list[Sold], verdict: Verdict, *, at_rest: bool) -> None:
        name, numbers = self.name(order), {one.id for one in sold}
        if order.state is OrderState.PLACED and order.provider_order not in numbers:
            verdict.wrong.append(f"{name}: bound to {order.provider_order}, which is not it: {order.evidence}")
        if order.state is OrderState.PLACED and order.late_order is not None:
            verdict.wrong.append(f"{name}: placed, and late too")
        if at_rest and order.state is OrderState.NOT_PLACED and not self._is_noted(order, numbers):
            verdict.lost.append(f"{name}: {order.state}, and bought: {order.evidence}")
        if not 0 <= order.refunded <= order.charge:
            verdict.wrong.append(f"{name}: {order.refunded} of {order.charge} went back")

    def _is_noted(self, order: Order, numbers: set[int]) -> bool:
        """Say whether each of the panel's numbers was noted on an order that had been given up."""
        noted = {one.number for one in self.parts.orders.bound(Account(self.slug)) if one.order == order.id}
        return numbers <= noted

    def _judge_money(
        self, orders: list[Order], sold: dict[str, list[Sold]], verdict: Verdict, *, at_rest: bool
    ) -> None:
        entries = Counter((entry["kind"], entry["id"]) for entry in self.parts.wallet.ledger("acme"))
        # An order may be paid back in steps, as its panel does; what that comes to is in `refunded`.
        repeated = [f"{count} times: {one}" for one, count in entries.items() if count > 1 and one[0] != "refund"]
        verdict.wrong += repeated
        held = sum(order.wallet_charge for order in orders if order.state in (OrderState.UNKNOWN, OrderState.SENDING))
        placed = [order for order in orders if order.state is OrderState.PLACED]
        spent = sum(order.price for order in placed)
        expected, found = (CREDIT - spent - held, held), self.market.money()
        verdict.difference += abs(expected[0] - found[0]) + abs(expected[1] - found[1])
        counted, due = days(self.parts, "acme")
        if counted != due:
            verdict.wrong.append(f"its days counted {counted}, and its orders cost {due}")
        counted, due = allowances(self.parts, "acme")
        if counted != due:
            verdict.wrong.append(f"its tokens counted {counted}, and their orders cost {due}")
        if at_rest:  # every end was seen
            paid = sum(money.micros(one.charge - one.refunded) for o in placed for one in sold.get(self.name(o), []))
            verdict.difference += abs(paid - spent)

    def _judge_words(self, sold: dict[str, list[Sold]], verdict: Verdict) -> None:
        """Hold the gateway to what its callers were told."""
        states = {self.name(order): order for order in self.orders() if order.state is not OrderState.REJECTED}
        for name, told in self.told.items():
            order = states.get(name)
            if told.startswith("order") and (order is None or told != f"order {order.id}" or not sold.get(name)):
                verdict.wrong.append(f"{name}: {told} was told of, and is not placed")
            is_refusal = told not in ("pending", KILLED) and not told.startswith("order")
            if is_refusal and (sold.get(name) or order is not None):
                verdict.wrong.append(f"{name}: {told} was told, and it was bought or is held")
