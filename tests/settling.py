"""Orders whose answer is lost, and the minutes in which the schedules look for them."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from chalicelib.clock import MINUTE, SECOND
from chalicelib.commands import AddCommand
from chalicelib.errors import AnswerLost
from chalicelib.jobs import settle_orders, sweep_orders
from chalicelib.model import Order, OrderState
from chalicelib.panels.dialect import Reply, Request
from chalicelib.purchase import Receipt
from chalicelib.wiring import Parts
from sandbox.orders import Order as Sold
from tests.market import Market, Panels
from tests.world import LINK

QUIET = 600 * SECOND


@dataclass
class Lossy:
    """The way to the panels: a purchase is lost ``before`` or ``after`` the panel has it."""

    network: Panels
    lost: str = ""
    later: list[tuple[str, Request]] = field(default_factory=list)

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        is_purchase = send_by is not None and send_by < deadline
        if is_purchase and self.lost == "before":
            self.later.append((url, request))
            raise AnswerLost("connection reset")
        reply = self.network.send(url, request, deadline=deadline, send_by=send_by)
        if is_purchase and self.lost == "after":
            raise AnswerLost("connection reset")
        return reply

    def arrive(self) -> None:
        """Let the panel have what was lost before it, late."""
        for url, request in self.later:
            self.network.send(url, request, deadline=2**62)
        self.later.clear()


@dataclass
class Shop:
    """A market that buys, loses and waits."""

    market: Market
    lossy: Lossy
    number: int = 0

    @classmethod
    def of(cls, market: Market, *exclusive: str, **changes: Any) -> "Shop":
        """Open a shop in which the keys of some providers are declared exclusive."""
        for slug in exclusive:
            market.registry.change_provider(slug, partial(replace, exclusive_key=True, **changes))
        market.time.at += MINUTE  # the directory forgets what it had read before
        return cls(market, Lossy(market.network))

    @property
    def parts(self) -> Parts:
        return self.market.twin(sender=self.lossy)

    def service(self, slug: str, rank: int = 0) -> int:
        """Return the public id of a panel's service of type Default, by its place among them."""
        offered = [one for one in self.market.panel(slug).services.values() if one.type == "Default"]
        return self.market.registry.provider(slug).global_id(offered[rank].id)

    def buy(
        self, slug: str, quantity: int | None = 1000, *, lost: str = "", key: str | None = None, **fields: Any
    ) -> Order:
        """Buy something; its answer may be lost ``before`` or ``after`` the panel has it."""
        self.number += 1
        given = {"service": self.service(slug), "link": f"{LINK}/{self.number}", "quantity": quantity, **fields}
        command = AddCommand.read({name: value for name, value in given.items() if value is not None})
        self.lossy.lost = lost
        parts = self.parts
        session = self.market.session(key, parts)
        receipt = parts.gateway.execute(session, command)
        assert isinstance(receipt, Receipt)
        order = self.market.parts.orders.get(session.tenant.id, receipt.order)
        assert order is not None
        assert order.state is (OrderState.UNKNOWN if lost else OrderState.PLACED) or order.pending
        self.market.time.at += SECOND
        return order

    def look(self, order: Order) -> Order:
        found = self.market.parts.orders.get(order.tenant, order.id)
        assert found is not None
        return found

    def wait(self, minutes: int = 1) -> None:
        """Let minutes pass, and the schedules run in each."""
        for _ in range(minutes):
            self.market.time.at += MINUTE
            sweep_orders(self.market.parts)
            settle_orders(self.market.parts)

    def foreign(self, slug: str, quantity: int = 1000, rank: int = 0, count: int = 1) -> list[Sold]:
        """Let somebody else order with the provider's key."""
        panel = self.market.panel(slug)
        offered = [one for one in panel.services.values() if one.type == "Default"]
        fields = {"service": str(offered[rank].id), "link": LINK, "quantity": str(quantity)}
        return [panel.place(fields) for _ in range(count)]

    def calls(self, slug: str) -> int:
        return sum(heard == slug for heard, _ in self.market.network.heard)
