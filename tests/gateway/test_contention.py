"""Fifty orders of one tenant at once, on a store in which every third transaction meets another: DynamoDB's own way.

The emulator takes transactions one after the other and has no conflicts, so they are made here.
"""

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.api.answers import serve
from chalicelib.api.v3 import V3
from chalicelib.clock import SECOND, Clock
from chalicelib.model import OrderState, Tenant
from chalicelib.wiring import Parts
from tests.api.http import Answered, incoming
from tests.faults import TRANSACT, Faulty, store_error
from tests.stage import START
from tests.world import LINK, World, cannot_be_reached

CALLERS = 50
CREDIT = 100 * SECOND
PRICE = 90_000  # 100 at 0.90 per 1000
SHARE = 0.3
SEED = 20270115


def running_clock() -> Clock:
    """Return a clock that begins with the world and runs: threads wait for one another by it."""
    began = time.monotonic_ns()
    return Clock(now=lambda: START + (time.monotonic_ns() - began) // 1000, sleep=time.sleep)


@dataclass
class Conflicts:
    """A store in which a share of the transactions is cancelled by a conflict."""

    dice: random.Random = field(default_factory=lambda: random.Random(SEED))  # noqa: S311 - no secret
    met: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if name != TRANSACT:
            return call()
        with self._lock:
            conflict = self.dice.random() < SHARE
            at = self.dice.randrange(len(request["TransactItems"]))
            self.met += conflict
        if not conflict:
            return call()
        reasons = [{"Code": "None"} for _ in request["TransactItems"]]
        reasons[at] = {"Code": "TransactionConflict"}
        raise store_error("TransactionCanceledException", CancellationReasons=reasons)


@dataclass
class Crowd:
    """Fifty callers, each in a container of its own."""

    world: World
    key: str
    conflicts: Conflicts = field(default_factory=Conflicts)
    clock: Clock = field(default_factory=running_clock)

    @classmethod
    def of(cls, world: World, **settings: Any) -> "Crowd":
        tenant = Tenant(id="busy", interval=10_000, burst=1000, **settings)
        return cls(world, world.add_tenant(tenant, credit=CREDIT))

    def add(self, link: Callable[[int], str]) -> list[Answered]:
        store = Faulty(self.world.parts.table.client, self.conflicts)
        twins = [self.world.twin(dynamodb=store, clock=self.clock) for _ in range(CALLERS)]
        start = threading.Barrier(CALLERS)

        def call(n: int) -> Answered:
            start.wait(20)
            return self._call(twins[n], link(n))

        with ThreadPoolExecutor(CALLERS) as threads:
            return list(threads.map(call, range(CALLERS)))

    def _call(self, parts: Parts, link: str) -> Answered:
        body = json.dumps({"action": "add", "service": 1001, "link": link, "quantity": 100}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        now = self.clock.now()
        request = incoming(self.world, headers=headers, body=body, arrival=now, end=now + 28 * SECOND)
        return Answered.of(serve(V3, request, parts.gateway))

    def check(self, answers: list[Answered], accepted: int) -> None:
        """Check that so many orders were bought, paid and told of, and that nothing is left of any other."""
        orders = list(self.world.parts.orders.page("busy"))
        assert self.conflicts.met > CALLERS * SHARE / 2, "the store was too kind"
        assert {order.id for order in orders if order.state is OrderState.PLACED} == {
            answer.json["order"] for answer in answers if answer.status == 200
        }
        assert len(orders) == len(self.world.panel.purchases) == accepted
        assert self.world.money("busy") == (CREDIT - accepted * PRICE, 0)


def codes(answers: list[Answered]) -> dict[object, int]:
    """Return how often each status and code was answered."""
    told = [(answer.status, answer.json.get("code")) for answer in answers]
    return {answer: told.count(answer) for answer in told}


@pytest.mark.parametrize("guarded", [False, True])
def test_every_one_of_fifty_is_bought_once_and_paid_once(world: World, *, guarded: bool) -> None:
    guards = {"daily_spend": CALLERS * PRICE, "refuse_duplicate_link": True} if guarded else {}
    crowd = Crowd.of(world, **guards)
    answers = crowd.add(lambda n: f"{LINK}/{n}")
    assert codes(answers) == {(200, None): CALLERS}
    crowd.check(answers, CALLERS)
    assert sum(world.spent("busy").values()) == (CALLERS * PRICE if guarded else 0)


def test_of_fifty_as_many_are_bought_as_the_day_allows(world: World) -> None:
    crowd = Crowd.of(world, daily_spend=20 * PRICE + PRICE // 2)
    answers = crowd.add(lambda n: f"{LINK}/{n}")
    assert codes(answers) == {(200, None): 20, (402, "spend_limit_reached"): 30}
    crowd.check(answers, 20)
    assert sum(world.spent("busy").values()) == 20 * PRICE


def test_of_fifty_on_five_links_five_are_bought(world: World) -> None:
    crowd = Crowd.of(world, refuse_duplicate_link=True)
    answers = crowd.add(lambda n: f"{LINK}/{n % 5}")
    assert codes(answers) == {(200, None): 5, (409, "duplicate_link"): 45}
    crowd.check(answers, 5)


def test_of_fifty_that_reach_no_panel_nothing_stays(world: World) -> None:
    world.panel.behaviours["add"] = cannot_be_reached
    crowd = Crowd.of(world, daily_spend=CALLERS * PRICE, refuse_duplicate_link=True)
    answers = crowd.add(lambda n: f"{LINK}/{n}")
    assert codes(answers) == {(503, "service_unavailable"): CALLERS}
    assert not world.panel.purchases
    assert {order.state for order in world.parts.orders.page("busy")} == {OrderState.REJECTED}
    assert world.money("busy") == (CREDIT, 0)
    assert sum(world.spent("busy").values()) == 0
