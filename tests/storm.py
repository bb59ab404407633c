"""Random orders through faults of the panels and of the store, until every one of them is settled.

The panels count what they sold; the gateway is held to that. Time is simulated, the store is the real emulator, and
one seed gives one storm. `make test-faults` lets a long one pass.
"""

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from botocore.exceptions import ReadTimeoutError

from chalicelib.clock import MINUTE, SECOND
from chalicelib.commands import AddCommand
from chalicelib.errors import AnswerLost, NeverSent, StoreBusy
from chalicelib.jobs import needing_decision, settle_orders, sweep_orders
from chalicelib.model import FINAL, Account, Order, OrderState, Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.wiring import Parts
from tests.faults import TRANSACT, Faulty, Killed, store_error
from tests.judging import Verdict, answer, judge
from tests.market import Market
from tests.world import LINK

CREDIT = 100_000 * SECOND
EXCLUSIVE = ("smosale", "smmrich", "mysticsmm", "smmafrica")
# An order that nobody decided is looked at for this many simulated minutes.
PATIENCE = 45
ENDS = ("", "", "", "", "", "", "partial", "cancel", "cancel-partial", "fail")


@dataclass
class Weather:
    """What goes wrong, and how often: ``panel`` of the purchases, ``store`` of the store's calls of an `add`."""

    chance: random.Random
    panel: float
    store: float
    met: Counter[str] = field(default_factory=Counter)
    late: list[tuple[int, Callable[[], Reply]]] = field(default_factory=list)

    def strikes(self, share: float) -> bool:
        return self.chance.random() < share

    def on_the_store(self, name: str, _request: dict[str, Any], call: Callable[[], Any]) -> Any:
        """Pass a call of the store on, or let it meet a fault."""
        if not self.strikes(self.store):
            return call()
        kind = self.choose(_STORE)
        if kind.endswith("after"):
            call()
        if kind.startswith("killed"):
            raise Killed
        if kind.startswith("lost"):
            raise ReadTimeoutError(endpoint_url="http://store")
        if kind == "conflict" and name == TRANSACT:
            reasons = [{"Code": "TransactionConflict"}]
            raise store_error("TransactionCanceledException", CancellationReasons=reasons)
        if kind == "500":
            raise store_error("InternalServerError", 500)
        raise store_error("ThrottlingException")

    def choose(self, kinds: Iterable[str]) -> str:
        kind = self.chance.choice(list(kinds))
        self.met[kind] += 1
        return kind


Send = Callable[[], Reply]


def _refused(_call: Send) -> Reply:
    raise NeverSent("connection refused")


def _lost_before(_call: Send) -> Reply:
    raise AnswerLost("connection reset")


def _lost_after(call: Send) -> Reply:
    call()
    raise AnswerLost("connection reset")


def _answers(status: int, body: bytes, *, buys: bool) -> Callable[[Send], Reply]:
    def answer(call: Send) -> Reply:
        if buys:
            call()
        return Reply(status, {}, body)

    return answer


# What may become of a purchase on its way; "late" is up to the weather.
_PANEL: Mapping[str, Callable[[Send], Reply]] = {
    "refused": _refused,
    "lost before": _lost_before,
    "lost after": _lost_after,
    "late": _lost_before,
    "500": _answers(500, b"<html>", buys=False),
    "502 and bought": _answers(502, b"<html>", buys=True),
    "broken": _answers(200, b'{"order": 12', buys=True),
    "empty": _answers(200, b"", buys=True),
    "html": _answers(200, b"<html>Just a moment...</html>", buys=False),
    "429": _answers(429, b'{"error":"Too many requests"}', buys=False),
}
_STORE = ("killed before", "killed after", "lost before", "lost after", "conflict", "throttled", "500")


@dataclass
class FaultySender:
    """The way to the panels, through the weather."""

    market: Market
    weather: Weather

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        def call() -> Reply:
            return self.market.network.send(url, request, deadline=deadline, send_by=send_by)

        # Only a purchase is to be sent earlier than it is to be over.
        is_purchase = send_by is not None and send_by < deadline
        if not is_purchase or not self.weather.strikes(self.weather.panel):
            return call()
        kind = self.weather.choose(_PANEL)
        if kind == "late":
            self.weather.late.append((self.market.time.at + self.weather.chance.randrange(50) * SECOND, call))
        return _PANEL[kind](call)


@dataclass
class Report:
    """What a storm ended with."""

    orders: int
    purchases: int
    faults: int
    verdict: Verdict
    unknown: Counter[str]
    undecided: Counter[str]

    @property
    def is_clean(self) -> bool:
        """Whether no promise was broken; what is late here arrives before anything may be given up."""
        return self.verdict.is_good and not self.verdict.late

    def share_of(self, slugs: Collection[str]) -> float:
        """Return which share of some providers' unknown outcomes was settled without a person."""
        unknown, undecided = (sum(counts[slug] for slug in slugs) for counts in (self.unknown, self.undecided))
        return 1 - undecided / unknown if unknown else 1.0

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{self.orders} orders, {self.purchases} purchases at the panels, {self.faults} faults"
        doubled, lost = len(self.verdict.doubled), len(self.verdict.lost) + len(self.verdict.late)
        yield f"doubled {doubled}, lost {lost}, micro-USD of difference {self.verdict.difference}"
        yield from (f"wrong: {sentence}" for sentence in self.verdict.wrong)
        for slug in sorted(self.unknown):
            share = f"{self.share_of([slug]):.1%}"
            yield f"{slug}: {self.unknown[slug]} unknown outcomes, {share} settled without a person"


@dataclass
class Storm:
    """A market, its tenants, and what they have tried to buy."""

    market: Market
    weather: Weather
    chance: random.Random
    keys: dict[str, str] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    next_job: int = 0
    seen_unknown: set[tuple[str, int]] = field(default_factory=set)

    @classmethod
    def over(cls, market: Market, *, seed: int, panel: float, store: float) -> "Storm":
        chance = random.Random(seed)  # noqa: S311 - a storm, not a secret
        storm = cls(market, Weather(chance, 0, 0), chance)
        for name, limit in {"ann": None, "bob": None, "eve": CREDIT}.items():
            tenant = Tenant(id=name, interval=1, burst=1000, daily_spend=limit)
            storm.keys[name] = market.add_tenant(tenant, credit=CREDIT)
        for slug in EXCLUSIVE:
            market.registry.change_provider(slug, partial(replace, exclusive_key=True))
        for slug in market.network.panels:
            storm.buy(slug)
        storm.pass_time(2 * MINUTE)
        storm.weather = Weather(chance, panel, store)
        return storm

    def run(self, orders: int) -> Report:
        """Buy so many times, then wait until nothing moves, and judge."""
        for _ in range(orders):
            self.buy(self.chance.choice(list(self.market.network.panels)))
            self.pass_time(self.chance.randrange(12) * SECOND)
        self.weather.panel = self.weather.store = 0.0
        for _ in range(PATIENCE):
            self.pass_time(MINUTE)
            if not self.unsettled():
                break
        self.poll_to_the_end()
        return self.judge()

    def buy(self, slug: str) -> None:
        """Buy something of a provider for somebody, who asks up to three times."""
        tenant = self.chance.choice(list(self.keys))
        number = len(self.told)
        name = f"{number}{self.chance.choice(ENDS)}"
        offered = [one for one in self.market.panel(slug).services.values() if one.type == "Default"]
        service = self.chance.choice(offered)
        round_figures = [quantity for quantity in (500, 1000, 2000) if quantity >= service.min]
        figures = round_figures if self.weather.strikes(0.1) else range(service.min, 5000)
        command = AddCommand.read(
            {
                "service": self.market.registry.provider(slug).global_id(service.id),
                "link": f"{LINK}/{name}",
                "quantity": self.chance.choice(figures),
                "idempotency_key": f"k{number}",
            }
        )
        self.told[name] = [self.add(self.keys[tenant], command) for _ in range(self.chance.choice((1, 1, 2, 3)))]

    def add(self, key: str, command: AddCommand) -> str:
        """Buy from a cold container, as one call of a tenant's program; return what it was told."""
        parts = self.container()
        return answer(lambda: parts.gateway.execute(self.market.session(key, parts), command))

    def container(self) -> Parts:
        store = Faulty(self.market.parts.table.client, self.weather.on_the_store)
        return self.market.twin(dynamodb=store, sender=FaultySender(self.market, self.weather))

    def pass_time(self, time: int) -> None:
        """Let time pass: late purchases arrive, and the schedules run each minute."""
        end = self.market.time.at + time
        while self.market.time.at < end:
            self.market.time.at = min(end, max(self.next_job, self.market.time.at))
            self.arrive()
            if self.market.time.at >= self.next_job:
                self.do_jobs()

    def arrive(self) -> None:
        due = [late for late in self.weather.late if late[0] <= self.market.time.at]
        self.weather.late = [late for late in self.weather.late if late not in due]
        for _, call in due:
            call()

    def do_jobs(self) -> None:
        self.next_job = self.market.time.at + MINUTE
        for job in (sweep_orders, settle_orders):
            with contextlib.suppress(Killed, StoreBusy):
                job(self.container() if self.weather.store else self.market.parts)
            for order in self.unsettled():
                if order.state is OrderState.UNKNOWN:
                    self.seen_unknown.add((order.tenant, order.id))

    def unsettled(self) -> list[Order]:
        return [one for slug in self.market.network.panels for one in self.market.parts.orders.unsettled(Account(slug))]

    def poll_to_the_end(self) -> None:
        for _ in range(200):
            self.pass_time(5 * MINUTE)
            if not any(
                order.state is OrderState.PLACED and (order.reading is None or order.reading.status not in FINAL)
                for order in self.all_orders()
            ):
                return
        raise AssertionError("orders never ended")

    def all_orders(self) -> list[Order]:
        return [order for tenant in self.keys for order in self.market.parts.orders.page(tenant)]

    def judge(self) -> Report:
        """Compare what the gateway says with what the panels sold."""
        orders, purchases = self.all_orders(), sum(len(self.market.bought(slug)) for slug in self.market.network.panels)
        providers = {(order.tenant, order.id): order.provider for order in orders}
        return Report(
            len(orders),
            purchases,
            self.weather.met.total(),
            judge(self.market, dict.fromkeys(self.keys, CREDIT), self.told),
            Counter(providers[one] for one in self.seen_unknown),
            Counter(order.provider for order in needing_decision(self.market.parts)),
        )
