"""One panel's books: customers, catalog, orders, refills. What dialects translate to and from."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox import money
from sandbox.faults import ActiveFault
from sandbox.journal import Entry, Journal
from sandbox.messages import PanelError, Problem
from sandbox.orders import (
    CANCEL_AFTER,
    Order,
    Refill,
    Stage,
    Standing,
    order_from,
    refund_of,
    standing_at,
)
from sandbox.purchase import read_purchase
from sandbox.services import Service, service_from

if TYPE_CHECKING:
    from sandbox.profiles import Profile

MAX_CHILDREN = 100
"""Orders that one unlimited subscription makes at most."""


@dataclass
class Settings:
    """A panel's habits, switchable while it runs."""

    rate_limit: bool = True
    refuse_duplicate_links: bool = False
    language_keys: bool = False
    """Errors as `neworder.error.…`, the way language keys leak on some panels."""


@dataclass
class Customer:
    """Who has an account at a panel: the keys that open it, and what is on it."""

    keys: list[str]
    balance: Decimal

    def as_record(self) -> dict[str, Any]:
        """The customer as JSON."""
        return {"keys": self.keys, "balance": str(self.balance)}


@dataclass(frozen=True)
class Changes:
    """What the store has not seen yet."""

    slug: str
    head: dict[str, Any]
    orders: list[dict[str, Any]]
    entries: list[Entry]
    erased: bool
    forgotten: bool


class Panel:
    """The books of one panel. Every method expects the caller to hold `lock`.

    It speaks to one customer at a time: the first, whose name is empty, or while `serving` the one whose key it is.
    Orders are numbered for all together, and each customer sees and pays only their own.
    """

    def __init__(self, profile: "Profile", *, clock: Callable[[], float], speed: float, rate_limits: bool) -> None:
        self.profile = profile
        self.clock = clock
        self.speed = speed
        self.lock = threading.RLock()
        self._rate_limits = rate_limits
        self.reset()
        self.touched = self.erased = False

    def reset(self) -> None:
        """Back to the first day."""
        profile = self.profile
        self.customer = ""
        self.customers = {"": Customer([f"sandbox-{profile.slug}-key"], profile.balance)}
        self.services: dict[int, Service] = {service.id: service for service in profile.catalog}
        self.settings = Settings(rate_limit=self._rate_limits, language_keys=profile.language_keys)
        self.faults: list[ActiveFault] = []
        self.orders: dict[int, Order] = {}
        self.refills: dict[int, Refill] = {}
        self.next_order = profile.first_order
        self.journal = Journal()
        self._live: set[int] = set()
        self._unsaved: set[int] = set()
        self._arrivals: dict[str, deque[float]] = {}
        self.touched = self.erased = True

    # Callers

    def knows(self, key: str) -> bool:
        """Whether a key is valid."""
        return bool(key) and any(key in customer.keys for customer in self.customers.values())

    @contextmanager
    def serving(self, key: str) -> Iterator[None]:
        """Speak to the customer whose key it is, if it is one."""
        self.customer = next((name for name, one in self.customers.items() if key in one.keys), "")
        try:
            yield
        finally:
            self.customer = ""

    @property
    def keys(self) -> list[str]:
        """The valid keys of the customer."""
        return self.customers[self.customer].keys

    @keys.setter
    def keys(self, keys: list[str]) -> None:
        self.customers[self.customer].keys = keys

    @property
    def balance(self) -> Decimal:
        """What the customer has, without refunds that nobody has looked for yet."""
        return self.customers[self.customer].balance

    @balance.setter
    def balance(self, balance: Decimal) -> None:
        self.customers[self.customer].balance = balance

    def keeps_pace(self, key: str, arrived: float) -> bool:
        """Count an arrival against the panel's limit; False when it came too fast. Wrong keys share one pace."""
        limit = self.profile.limit
        if limit is None or not self.settings.rate_limit:
            return True
        recent = self._arrivals.setdefault(key if self.knows(key) else "", deque())
        while recent and arrived - recent[0] >= limit.window:
            recent.popleft()
        if len(recent) >= limit.calls:
            return False
        recent.append(arrived)
        return True

    # Money and catalog

    def funds(self) -> Decimal:
        """The customer's balance now, with every refund that is due."""
        for number in list(self._live):
            self._settle(self.orders[number])
        return self.balance

    def set_funds(self, balance: Decimal) -> None:
        """Set the balance."""
        self.balance = balance
        self.touched = True

    def service(self, number: str) -> Service:
        """A service by the id a caller sent."""
        found = self.services.get(int(number)) if is_id(number) else None
        if found is None:
            raise PanelError(Problem.BAD_SERVICE)
        return found

    # Orders

    def place(self, fields: Mapping[str, str]) -> Order:
        """Take an order and its price.

        Raises:
            PanelError: when the panel would refuse it.
        """
        purchase = read_purchase(self.service(fields.get("service", "")), fields)
        if self.settings.refuse_duplicate_links and self._has_live(purchase.link):
            raise PanelError(Problem.DUPLICATE_LINK)
        if self.balance < purchase.charge and self.funds() < purchase.charge:
            raise PanelError(Problem.NO_FUNDS)
        order = Order(
            id=self.next_order,
            service=purchase.service,
            link=purchase.link,
            quantity=purchase.quantity,
            charge=purchase.charge,
            created=self.clock(),
            details=purchase.details,
            subscription=purchase.subscription,
            customer=self.customer,
        )
        self._open(order)
        return order

    def order(self, number: str) -> Order:
        """An order of the customer by the id a caller sent, brought up to now."""
        found = self.find(number)
        if found.customer != self.customer:
            raise PanelError(Problem.BAD_ORDER)
        return found

    def find(self, number: str) -> Order:
        """The same, whoever's it is."""
        found = self.orders.get(int(number)) if is_id(number) else None
        if found is None:
            raise PanelError(Problem.BAD_ORDER)
        self._settle(found)
        return found

    def cancel(self, number: str) -> Order:
        """Accept a cancel request; it takes effect later."""
        order = self.order(number)
        service = self.services.get(order.service)
        if order.ended or service is None or not service.cancel:
            raise PanelError(Problem.NOT_CANCELABLE)
        if order.canceling_at is None:
            order.canceling_at = self.clock() + CANCEL_AFTER / self.speed
            self.mark(order)
        return order

    def refill(self, number: str) -> Refill:
        """Accept a refill request for a completed order of a service with refill."""
        order = self.order(number)
        service = self.services.get(order.service)
        if order.stage is not Stage.COMPLETED or service is None or not service.refill:
            raise PanelError(Problem.NOT_REFILLABLE)
        refill = Refill(len(self.refills) + 1, order.id, self.clock(), rejected="norefill" in order.link.lower())
        self.refills[refill.id] = refill
        self.touched = True
        return refill

    def refill_status(self, number: str) -> str:
        """The status of a refill by the id a caller sent."""
        found = self.refills.get(int(number)) if is_id(number) else None
        if found is None or self.orders[found.order].customer != self.customer:
            raise PanelError(Problem.BAD_REFILL)
        return found.status(self._age(found.created))

    def move(self, order: Order, stage: Stage) -> None:
        """Put an order at a stage by hand and pin it there."""
        order.pinned = True
        order.shown.pop("status", None)
        order.stage = stage
        self.mark(order)
        if order.ended:
            self._live.discard(order.id)
        else:
            self._live.add(order.id)

    def give_back(self, order: Order) -> None:
        """Pay the refund that an ended order has coming, less what was paid before."""
        due = refund_of(order)
        self.customers[order.customer].balance += due - order.refunded
        order.refunded = due
        self.mark(order)

    # Time

    def _age(self, since: float) -> float:
        return (self.clock() - since) * self.speed

    def _settle(self, order: Order) -> None:
        if order.ended:
            return
        canceling = order.canceling_at is not None and self.clock() >= order.canceling_at
        if order.subscription:
            self._settle_subscription(order, canceled=canceling)
            return
        standing = self._standing(order)
        if canceling and standing.stage not in (Stage.COMPLETED, Stage.PARTIAL, Stage.CANCELED, Stage.FAILED):
            delivered = standing.remains is not None and standing.remains < order.quantity
            standing = replace(standing, stage=Stage.PARTIAL if delivered else Stage.CANCELED)
        self._put(order, standing)

    def _standing(self, order: Order) -> Standing:
        if order.pinned:
            return Standing(order.stage, order.remains, order.start_count)
        until = self.clock() if order.canceling_at is None else min(self.clock(), order.canceling_at)
        return standing_at(order, (until - order.created) * self.speed)

    def _put(self, order: Order, standing: Standing) -> None:
        if standing == Standing(order.stage, order.remains, order.start_count):
            return
        order.stage, order.remains, order.start_count = standing.stage, standing.remains, standing.start_count
        self.mark(order)
        if order.ended:
            self._live.discard(order.id)
            self.give_back(order)

    def _settle_subscription(self, order: Order, *, canceled: bool) -> None:
        subscription = order.subscription
        if subscription is None or (order.pinned and not canceled):
            return
        stage = Stage.ACTIVE
        due = min(subscription.due(self._age(order.created)), MAX_CHILDREN)
        while not canceled and stage is Stage.ACTIVE and len(subscription.children) < due:
            stage = self._order_for_post(order)
        if canceled:
            stage = Stage.CANCELED
        elif subscription.posts is not None and len(subscription.children) >= subscription.posts:
            stage = Stage.COMPLETED
        elif subscription.expires is not None and self.clock() > subscription.expires:
            stage = Stage.EXPIRED
        self._put(order, Standing(stage, None, None))

    def _order_for_post(self, parent: Order) -> Stage:
        subscription, service = parent.subscription, self.services.get(parent.service)
        if subscription is None or service is None:
            return Stage.PAUSED
        spread = subscription.most - subscription.least + 1
        quantity = subscription.least + self.next_order * 7 % spread
        charge = money.price(service.rate, quantity)
        if self.customers[parent.customer].balance < charge:
            return Stage.PAUSED
        link = f"https://www.instagram.com/{parent.link}/p/{self.next_order}"
        child = Order(
            id=self.next_order,
            service=service.id,
            link=link,
            quantity=quantity,
            charge=charge,
            created=self.clock(),
            details={"parent": str(parent.id)},
            customer=parent.customer,
        )
        subscription.children.append(child.id)
        self.mark(parent)
        self._open(child)
        return Stage.ACTIVE

    def _open(self, order: Order) -> None:
        self.next_order = order.id + 1
        self.customers[order.customer].balance -= order.charge
        self.orders[order.id] = order
        self._live.add(order.id)
        self.mark(order)

    def _has_live(self, link: str) -> bool:
        self.funds()
        live = [self.orders[number] for number in self._live]
        return any(order.link == link and order.customer == self.customer for order in live)

    # What the store needs

    def mark(self, order: Order) -> None:
        """Note that an order changed."""
        self._unsaved.add(order.id)
        self.touched = True

    def take_changes(self) -> Changes | None:
        """Everything changed since the last time, or None."""
        if not self.touched:
            return None
        changes = Changes(
            slug=self.profile.slug,
            head=self._head(),
            orders=[self.orders[number].as_record() for number in sorted(self._unsaved)],
            entries=[replace(entry) for entry in self.journal.take_unsaved()],
            erased=self.erased,
            forgotten=self.journal.forgotten,
        )
        self._unsaved = set()
        self.touched = self.erased = self.journal.forgotten = False
        return changes

    def _head(self) -> dict[str, Any]:
        return {
            **self.customers[""].as_record(),
            "customers": {name: one.as_record() for name, one in self.customers.items() if name},
            "services": [service.as_record() for service in self.services.values()],
            "settings": asdict(self.settings),
            "faults": [asdict(fault) for fault in self.faults],
            "refills": [asdict(refill) for refill in self.refills.values()],
            "next_order": self.next_order,
            "last_request": self.journal.last,
        }

    def restore(self, head: Mapping[str, Any], orders: list[Mapping[str, Any]], entries: list[Entry]) -> None:
        """Continue where a stored panel stopped."""
        stored = {"": head, **head.get("customers", {})}
        self.customers = {name: Customer(list(one["keys"]), Decimal(one["balance"])) for name, one in stored.items()}
        self.services = {service.id: service for service in map(service_from, head["services"])}
        self.settings = Settings(**head["settings"])
        self.faults = [ActiveFault(**fault) for fault in head["faults"]]
        self.refills = {refill["id"]: Refill(**refill) for refill in head["refills"]}
        self.next_order = head["next_order"]
        self.orders = {order.id: order for order in map(order_from, orders)}
        self._live = {order.id for order in self.orders.values() if not order.ended}
        self.journal.last = head["last_request"]
        self.journal.entries.extend(entries)


def is_id(text: str) -> bool:
    """Whether a text can be an id at all."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(2**63))
