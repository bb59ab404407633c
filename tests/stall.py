"""One panel and one tenant: what was bought is counted at the panel, what is known of it at the gateway.

Whatever befell the containers, ``settle_down`` lets time pass and the schedules run until nothing moves, and ``judge``
compares the two.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from chalicelib.clock import MINUTE, SECOND, Clock
from chalicelib.commands import AddCommand, AnyCommand, StatusCommand
from chalicelib.errors import NeverSent
from chalicelib.gateway import Credentials, Result
from chalicelib.jobs import needing_decision, settle_orders, sweep_orders
from chalicelib.model import Account, Order
from chalicelib.panels.dialect import Reply, Request
from chalicelib.ports import Sender
from chalicelib.purchase import Deadline
from chalicelib.session import Session
from chalicelib.wiring import Parts
from cli.chain import Record
from cli.console import Aws, Console
from cli.journal import Anchor, Journal
from cli.orders import orders_command
from sandbox.orders import Order as Sold
from sandbox.panel import Panel
from tests import judging
from tests.faults import Wire
from tests.judging import Verdict, answer
from tests.market import Market
from tests.stage import MovableClock
from tests.world import LINK

CREDIT = 1000 * SECOND
QUIET = 2 * MINUTE
# Minutes after which whatever can be settled is: a sender is given up, a quiet period passes, the evidence is read.
PATIENCE = 9


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
        self.told[name] = answer(lambda: parts.gateway.execute(self.session(parts), AddCommand.read(fields)))
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

    def sold(self) -> dict[str, list[Sold]]:
        """Return what the panel sold, by the name under which it was bought."""
        return judging.sold(self.market)

    def judge(self, *, at_rest: bool = True) -> Verdict:
        """Compare what the gateway says with what the panel sold; ``at_rest``: nothing is to come any more."""
        last = {name: [word] for name, word in self.told.items()}
        return judging.judge(self.market, {"acme": CREDIT}, last, at_rest=at_rest)
