"""Test mode: `pg_test_` keys do all that others do, with no provider, network or money, and meet nothing real."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from chalicelib import testmode
from chalicelib.clock import SECOND
from chalicelib.jobs import needing_decision, settle_orders, sweep_orders
from chalicelib.keys import parse_client_key
from chalicelib.model import Account, OrderState, Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.testmode import BEGINS, ENDS, KEPT, PROVIDER, SERVICES, SETTLED_AFTER, WAITS, Offer
from tests.api.http import Answered, v2, v3
from tests.world import World

LINK = "https://example.com/post/1"
TEST = "test:acme"


class NoNetwork:
    """A way to the panels that nothing may take."""

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        raise AssertionError((url, request, deadline, send_by))


class NoSecrets:
    """Secrets that nothing may ask for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@dataclass
class Program:
    """A program with a test key, on a stage whose ways to panels and secrets are closed."""

    world: World
    key: str

    def __call__(self, action: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        answer = self.answer(action, headers, **fields)
        assert answer.status in (200, 202), answer
        return answer.json

    def answer(self, action: str, headers: dict[str, str] | None = None, **fields: Any) -> Answered:
        bearer = {"authorization": f"Bearer {self.key}", **(headers or {})}
        return v3(self.world, {"action": action, **fields}, headers=bearer)

    def add(self, offer: Offer, **fields: Any) -> int:
        return int(self("add", service=offer * 1000, **{"link": LINK, "quantity": 100, **fields})["order"])

    def status(self, order: int) -> tuple[str, int | None]:
        told = self("status", order=order)
        assert told["stale"] is False
        return told["status"], told["remains"]

    def later(self, seconds: float) -> None:
        self.world.time.sleep(seconds)


@pytest.fixture
def program(world: World) -> Program:
    key = world.clients.create("acme", test=True).key
    closed = world.twin(secrets=NoSecrets(), sender=NoNetwork())
    return Program(replace(world, parts=closed), key)


def test_a_test_key_says_that_it_is_one_and_no_other_key_can(world: World) -> None:
    issued = world.clients.create("acme", test=True)
    assert issued.key.startswith("pg_test_acme_")
    assert world.session(issued.key).test
    assert not world.session().test
    rotated = world.clients.rotate(issued.client.id, overlap=0)
    assert rotated.key.startswith("pg_test_acme_")
    for text in (issued.key, world.key):
        parsed = parse_client_key(text)
        assert parsed is not None
        assert parsed.test is (text == issued.key)
    assert parse_client_key(world.key.replace("live", "test")) is None, "its checksum covers the word"


@pytest.mark.parametrize("offer", [Offer.DELIVERED, Offer.PARTIAL, Offer.CANCELED])
def test_an_order_begins_and_ends_in_half_a_minute(program: Program, offer: Offer) -> None:
    order = program.add(offer)
    assert program.status(order) == ("pending", 100)
    program.later(BEGINS + 15)
    assert program.status(order) == ("in_progress", 50)
    program.later(ENDS)
    ends = {Offer.DELIVERED: ("completed", 0), Offer.PARTIAL: ("partial", 50), Offer.CANCELED: ("canceled", 100)}
    assert program.status(order) == ends[offer]
    paid_back = {Offer.DELIVERED: 0, Offer.PARTIAL: 45, Offer.CANCELED: 90}[offer]
    assert program("status", order=order)["charge"] == (90 - paid_back) / 1000


def test_orders_of_other_types(program: Program) -> None:
    comments = program.add(Offer.COMMENTS, quantity=None, comments="nice\nvery nice\nwell done")
    package = program.add(Offer.PACKAGE, quantity=None)
    dripped = program.add(Offer.DELIVERED, runs=3, interval=10)
    assert [program("status", order=order)["charge"] for order in (comments, package, dripped)] == [0.015, 2, 0.27]
    program.later(ENDS)
    told = program("status", orders=[comments, package, dripped, 999])["orders"]
    assert [row.get("status", row.get("code")) for row in told] == [*["completed"] * 3, "order_not_found"]


@pytest.mark.parametrize(
    ("offer", "status", "code"),
    [
        (Offer.BAD_LINK, 422, "invalid_link"),
        (Offer.BAD_QUANTITY, 422, "invalid_quantity"),
        (Offer.GONE, 404, "service_not_found"),
        (Offer.DUPLICATE, 409, "duplicate_link"),
        (Offer.REFUSED, 422, "order_refused"),
        (Offer.DOWN, 503, "service_unavailable"),
        (Offer.NO_FUNDS, 402, "insufficient_funds"),
    ],
)
def test_services_that_fail_on_purpose(program: Program, offer: Offer, status: int, code: str) -> None:
    answer = program.answer("add", service=offer * 1000, link=LINK, quantity=100)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) is (status == 503)
    assert program("orders")["orders"] == []
    assert code in SERVICES[offer].name, "its name says so"


@pytest.mark.parametrize(("offer", "end"), [(Offer.LOST_AND_BOUGHT, "completed"), (Offer.LOST, "canceled")])
def test_an_outcome_that_is_not_known_is_settled_by_the_job(program: Program, offer: Offer, end: str) -> None:
    answer = program.answer("add", service=offer * 1000, link=LINK, quantity=100)
    assert (answer.status, answer.json["pending_confirmation"]) == (202, True)
    order = answer.json["order"]
    settle_orders(program.world.parts)
    assert program("status", order=order)["status"] == "pending", "not at once: there is something to see"
    program.later(SETTLED_AFTER / SECOND)
    settle_orders(program.world.parts)
    told = program("status", order=order)
    assert told["status"] == end
    assert told["charge"] == (0.09 if end == "completed" else 0)
    assert list(program.world.parts.test_orders.unsettled(PROVIDER.account)) == []


def test_an_order_whose_lambda_died_is_swept_and_settled(program: Program) -> None:
    orders = program.world.parts.test_orders
    order = orders.get(TEST, program.add(Offer.DELIVERED))
    assert order is not None
    died = replace(order, id=order.id + 1, state=OrderState.SENDING, provider_order=None, journal=order.journal[:1])
    died = replace(died, created=order.created + SECOND)  # numbers of one moment are drawn, and may be the same
    orders.accept(died, until=program.world.time.at + SECOND)
    program.later(200)
    assert sweep_orders(program.world.parts) == {"done": 1, "failed": 0}
    assert settle_orders(program.world.parts)["need_decision"] == 0
    assert program("status", order=died.id)["status"] == "completed"


def test_nothing_of_it_waits_for_the_operator(program: Program) -> None:
    program.add(Offer.LOST)
    program.later(24 * 3600)
    assert list(needing_decision(program.world.parts)) == []


def test_refills(program: Program) -> None:
    good, bad, none = program.add(Offer.DELIVERED), program.add(Offer.REFILL_REJECTED), program.add(Offer.PARTIAL)
    assert program.answer("refill", order=good).json["code"] == "order_refused", "not before it has ended"
    program.later(ENDS)
    first = program("refill", order=good)["refill"]
    rows = program("refill", orders=[bad, none])["orders"]
    assert rows[1]["code"] == "order_refused"
    refills = [first, rows[0]["refill"]]
    assert program("refill_status", refill=first)["status"] == "pending"
    program.later(BEGINS + 15)
    assert [row["status"] for row in program("refill_status", refills=refills)["refills"]] == ["in_progress"] * 2
    program.later(ENDS)
    told = program("refill_status", refills=refills)["refills"]
    assert [row["status"] for row in told] == ["completed", "rejected"]


def test_cancellations(program: Program) -> None:
    waiting, delivered = program.add(Offer.WAITING), program.add(Offer.DELIVERED)
    assert program.answer("cancel", order=delivered).json["code"] == "order_refused"
    rows = program("cancel", orders=[waiting, delivered])["orders"]
    assert rows[0] == {"order": waiting, "success": "Cancellation request accepted."}
    assert rows[1]["code"] == "order_refused"
    program.later(WAITS)
    assert program("status", order=waiting)["status"] == "canceled"
    assert program.answer("cancel", order=waiting).status == 422


def test_reads(program: Program) -> None:
    assert program("balance") == {"balance": 1000, "currency": "USD"}
    rows = program("services")
    assert [row["service"] for row in rows] == [number * 1000 for number in SERVICES]
    assert {row["name"][:5] for row in rows} == {"TEST "}
    first, second = program.add(Offer.DELIVERED), program.add(Offer.WAITING)
    assert {row["order"] for row in program("orders")["orders"]} == {first, second}


def test_v2_works_too(program: Program) -> None:
    world = program.world
    added = v2(world, {"key": program.key, "action": "add", "service": 1000, "link": LINK, "quantity": 10}).json
    told = v2(world, {"key": program.key, "action": "status", "order": added["order"]}).json
    assert told["status"] == "Pending"
    refused = v2(world, {"key": program.key, "action": "add", "service": 10000, "link": LINK, "quantity": 10})
    assert refused.json == {"error": "Incorrect link"}


def test_a_key_makes_one_test_order_and_says_nothing_of_real_ones(program: Program, world: World) -> None:
    idempotent = {"idempotency-key": "k"}
    first = program.answer("add", idempotent, service=1000, link=LINK, quantity=100)
    again = program.answer("add", idempotent, service=1000, link=LINK, quantity=100)
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    live = v3(world, {"action": "add", "service": 1001, "link": LINK, "quantity": 100}, headers=idempotent)
    assert live.status == 200
    assert "Idempotent-Replayed" not in live.headers


def test_test_and_real_orders_never_meet(program: Program, world: World) -> None:
    tried = program.add(Offer.DELIVERED)
    bought = v3(world, {"action": "add", "service": 1001, "link": LINK, "quantity": 100}).json["order"]
    asked = len(world.panel.requests)
    for action in ("status", "refill", "cancel"):
        assert program.answer(action, order=bought).json["code"] == "order_not_found"
        assert v3(world, {"action": action, "order": tried}).json["code"] == "order_not_found"
    assert len(world.panel.requests) == asked
    assert program.answer("add", service=1001, link=LINK, quantity=100).json["code"] == "service_not_found"
    assert v3(world, {"action": "add", "service": 1000, "link": LINK, "quantity": 100}).status == 404
    assert [row["order"] for row in v3(world, {"action": "orders"}).json["orders"]] == [bought]


def test_no_money_moves(program: Program) -> None:
    world = program.world
    before = world.money()
    for offer in (Offer.DELIVERED, Offer.PARTIAL, Offer.LOST, Offer.PACKAGE):
        program.add(offer, quantity=None if offer is Offer.PACKAGE else 1000)
    program.later(100)
    settle_orders(world.parts)
    for row in program("orders")["orders"]:
        program("status", order=row["order"])
    assert world.money() == before
    assert [item["sk"] for item in world.parts.table.query(f"T#{TEST}") if not item["sk"].startswith("ORDER#")] == []
    assert world.money(TEST) == (0, 0)


def test_whatever_its_tenant_is_like_the_test_provider_is_there(world: World) -> None:
    """It works where the operator has no provider at all, or none that this tenant may use."""
    world.registry.remove_provider("smosale")
    world.add_tenant(Tenant(id="beta", providers=frozenset({"gone"}), services=frozenset({7}), daily_spend=1), credit=0)
    key = world.clients.create("beta", test=True, actions=["add", "status"]).key
    program = Program(replace(world, parts=world.twin(sender=NoNetwork(), secrets=NoSecrets())), key)
    assert program.status(program.add(Offer.DELIVERED)) == ("pending", 100)
    assert program.answer("balance").json["code"] == "forbidden", "its scope holds"


def test_its_tenants_limit_and_suspension_hold(program: Program) -> None:
    for _ in range(20):
        program("balance")
    assert program.answer("balance").json["code"] == "rate_limited"
    assert v3(program.world, {"action": "balance"}).json["code"] == "rate_limited", "over all its clients"
    program.later(10)
    program.world.registry.set_active("acme", active=False)
    assert program.answer("balance").json["code"] == "forbidden"


def test_everything_that_is_kept_of_it_goes(program: Program) -> None:
    world = program.world
    world.registry.change_tenant("acme", partial(replace, refuse_duplicate_link=True))
    order = program.answer("add", {"idempotency-key": "k"}, service=1000, link=LINK, quantity=100).json["order"]
    program.answer("add", service=Offer.LOST_AND_BOUGHT * 1000, link=LINK, quantity=100)
    program.answer("add", service=Offer.LOST * 1000, link=LINK, quantity=100)
    program.later(ENDS)
    program("status", order=order)
    program("refill", order=order)
    settle_orders(world.parts)
    items = [*world.parts.table.query(f"T#{TEST}"), *world.parts.table.query(f"P#{PROVIDER.slug}")]
    kinds = {item["sk"].partition("#")[0] for item in items}
    assert kinds >= {"ORDER", "CLAIM", "LINK", "REFILL", "BOUND"}
    now = world.time.at // SECOND
    assert all(now < item["ttl"] <= now + KEPT for item in items), items


def test_its_numbers_are_as_many_as_the_orders_of_a_busy_moment(world: World) -> None:
    panel = testmode.BuiltInPanel(world.time.clock)
    request = Request(b"action=add&service=1&quantity=16000&runs=1000", {})
    numbers = [panel.send("", request, deadline=0).body for _ in range(5)]
    assert all(len(body) < 40 for body in numbers)
    assert len(set(numbers)) > 1
    assert PROVIDER.account == Account("test:panel")


def test_a_page_gets_no_token_of_a_test_key(program: Program) -> None:
    answer = program.answer("token", actions=["status"], ttl=60)
    assert (answer.status, answer.json["code"]) == (422, "not_supported")
