"""Subscriptions at panels that say odd things of them, and stores that fail on the way."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib.aws.order_writes import binding_key
from chalicelib.aws.orders import DynamoOrders
from chalicelib.clock import SECOND
from chalicelib.errors import StoreBusy
from chalicelib.model import Account, Attempt, Order
from chalicelib.panels.dialect import Reply
from cli.orders import Desk
from tests.api.http import v2, v3
from tests.faults import FAULTS, Fault, Killed, Wire
from tests.world import COMMENTS, FOLLOWERS, PretendPanel, World

CREDIT = 100 * SECOND
UNIT = 350  # micro-USD
FIELDS = {"action": "add", "service": 3001, "username": "star", "min": 20, "max": 30, "delay": 0}
SERVICE = replace(FOLLOWERS, id=3, type="Subscriptions", rate=Decimal("0.35"), min=10, max=1000, refill=False)
CHILD = {"charge": "0.0105", "start_count": "0", "status": "In progress", "remains": "30", "currency": "USD"}
OWN = 23501  # the panel's id of the first order


@pytest.fixture
def world(world: World) -> World:
    world.parts.catalog.sync("smosale", [FOLLOWERS, COMMENTS, SERVICE])
    return world


def subscribe(world: World, **more: Any) -> int:
    answer = v3(world, {**FIELDS, **more})
    assert answer.status == 200, answer.text
    return int(answer.json["order"])


def script(world: World, said: Mapping[int, Any]) -> None:
    """Let the panel say this of its orders, one by one or in a batch."""

    def status(_panel: PretendPanel, fields: dict[str, str]) -> Reply:
        def of(number: str) -> Any:
            return said.get(int(number), {"error": "Incorrect order ID"})

        numbers = fields.get("orders")
        body = {n: of(n) for n in numbers.split(",")} if numbers else of(fields["order"])
        return Reply(200, {}, json.dumps(body).encode())

    world.panel.behaviours["status"] = status


def look(world: World, number: int) -> Any:
    world.time.at += 16 * SECOND
    return v3(world, {"action": "status", "order": number}).json


def test_what_a_child_has_of_its_subscription_and_what_it_has_not(world: World) -> None:
    """The panel made it by itself: there was no attempt, though the subscription took two."""
    second = "pk-the-second-one"
    world.parts.vault.key(Account("smosale"))
    world.put_key(Account("smosale"), second, token="1" * 32)
    world.panel.keys = {second}
    number = subscribe(world, posts=2, idempotency_key="once")
    script(world, {OWN: {"status": "Active", "posts": "1", "orders": ["777"]}, 777: CHILD})
    [child] = (world.parts.orders.get("acme", one) for one in look(world, number)["orders"])
    parent = world.parts.orders.get("acme", number)
    assert parent is not None
    assert child is not None
    assert (parent.attempts, parent.earlier_keys) == (2, ("0" * 32,))
    assert (child.attempts, child.earlier_keys, child.attempt) == (0, (), Attempt(token="", send_by=0))
    assert Desk(world.time.at, {}, 600).document(child)["attempts"] == []
    inherited = (
        "tenant",
        "client",
        "provider",
        "service",
        "public_service",
        "rate",
        "cost",
        "funding",
        "audience",
        "own_key",
    )
    assert [getattr(child, name) for name in inherited] == [getattr(parent, name) for name in inherited]
    assert (child.parent, child.provider_order, child.type, child.idempotency_key) == (number, 777, "Default", None)


@pytest.mark.parametrize("orders", [None, "", [], ["x"], {"0": 1}])
def test_a_charge_counts_where_no_orders_can_be_read(world: World, orders: Any) -> None:
    number = subscribe(world, posts=2)
    script(world, {OWN: {"status": "Completed", "charge": "0.014", "remains": "0", "orders": orders}})
    assert look(world, number)["charge"] == 0.014
    assert world.money() == (CREDIT - 14_000, 0)


def test_children_that_were_paid_for_are_not_paid_for_again_in_the_total(world: World) -> None:
    number = subscribe(world, posts=3)
    script(world, {OWN: {"status": "Active", "orders": [900, 901]}, 900: CHILD, 901: CHILD})
    look(world, number)
    script(world, {OWN: {"status": "Completed", "charge": "0.021", "remains": "0"}})
    look(world, number)
    assert world.money() == (CREDIT - 2 * 30 * UNIT, 0)


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ({"status": "Pending", "remains": "25"}, 25),
        ({"status": "In progress", "remains": "21"}, 30),
        ({"status": "In progress"}, 30),
        ({"status": "Pending", "remains": "9999"}, 30),
        ({"status": "Completed", "charge": "0.007", "remains": "0"}, 20),
        ({"status": "Completed", "charge": "99", "remains": "0"}, 30),
        ({"status": "Canceled", "charge": "0", "remains": "30"}, 0),
    ],
)
def test_a_child_costs_what_it_cost_there_or_what_it_may_have_cost(
    world: World, said: dict[str, str], units: int
) -> None:
    number = subscribe(world, posts=1)
    script(world, {OWN: {"status": "Completed", "orders": [900]}, 900: said})
    look(world, number)
    assert world.money() == (CREDIT - units * UNIT, 0)


@pytest.mark.parametrize(
    ("orders", "event"),
    [
        ([900, 555], "a subscription names an order that is another's"),
        ([900, 901], "a subscription's order cannot be read"),
    ],
)
def test_what_cannot_be_taken_in_is_told_and_nothing_is_given_back(
    world: World, caplog: pytest.LogCaptureFixture, orders: list[int], event: str
) -> None:
    number = subscribe(world, posts=2)
    foreign = world.parts.orders.get("acme", v3(world, {**FIELDS, "posts": 1}).json["order"])
    assert foreign is not None
    script(world, {OWN: {"status": "Completed", "orders": orders}, 900: CHILD, 555: CHILD})
    pk, sk = binding_key(Account("smosale"), 555)
    world.parts.table.put_many([{"pk": pk, "sk": sk, "tenant": "acme", "order": foreign.id}])
    with caplog.at_level("ERROR", logger="panelgate"):
        assert look(world, number)["status"] == "in_progress"
    assert event in caplog.messages
    assert world.money()[1] == (1 + 1) * 30 * UNIT


def test_its_own_id_among_its_orders_is_no_child(world: World) -> None:
    number = subscribe(world, posts=1)
    script(world, {OWN: {"status": "Completed", "orders": [OWN, 900]}, 900: CHILD})
    assert look(world, number)["status"] == "completed"
    assert world.money() == (CREDIT - 30 * UNIT, 0)


def test_an_end_is_not_taken_back_when_its_reading_was_not_kept(world: World) -> None:
    number = subscribe(world, posts=2)
    script(world, {OWN: {"status": "Completed", "charge": "0.014", "remains": "0"}})

    class Forgetful(DynamoOrders):
        def observe(self, *_given: Any, **_named: Any) -> Order:
            raise StoreBusy("throttled")

    whole = world.parts
    gateway = replace(whole.gateway, orders=Forgetful(whole.table))
    world.parts = replace(whole, gateway=gateway)
    assert look(world, number)["charge"] == 0.014
    world.parts = whole
    for _ in range(2):
        assert look(world, number)["charge"] == 0.014
    assert world.money() == (CREDIT - 14_000, 0)


def test_a_neighbour_that_has_just_taken_in_another_order_keeps_it_from_ending(world: World) -> None:
    number = subscribe(world, posts=2)
    script(world, {OWN: {"status": "Completed", "orders": [900]}, 900: CHILD})
    raced: list[Order] = []

    class Racing(DynamoOrders):
        def end_subscription(self, parent: Order, *, spent: int, until: int) -> Order:
            if not raced:
                child = replace(parent, id=1_234_567, provider_order=901, charge=30 * UNIT, held=None, children={})
                grown = self.adopt(parent, child, until=until)
                assert grown is not None
                raced.append(grown)
            return super().end_subscription(parent, spent=spent, until=until)

    whole = world.parts
    world.parts = replace(whole, gateway=replace(whole.gateway, orders=Racing(whole.table)))
    assert look(world, number)["status"] == "in_progress"
    world.parts = whole
    assert look(world, number)["status"] == "completed"
    assert world.money() == (CREDIT - 2 * 30 * UNIT, 0)


def test_a_slow_store_does_not_keep_a_request_beyond_its_time(world: World) -> None:
    number = subscribe(world, posts=60)
    children = range(900, 960)
    script(world, {OWN: {"status": "Completed", "orders": [*children]}, **dict.fromkeys(children, CHILD)})

    class Slow(DynamoOrders):
        def adopt(self, parent: Order, child: Order, *, until: int) -> Order | None:
            world.time.at += SECOND
            return super().adopt(parent, child, until=until)

    whole = world.parts
    world.parts = replace(whole, gateway=replace(whole.gateway, orders=Slow(whole.table)))
    world.time.at += 16 * SECOND
    began = world.time.at
    assert v3(world, {"action": "status", "order": number}).json["status"] == "in_progress"
    assert world.time.at - began < 29 * SECOND
    world.parts = whole
    assert look(world, number)["status"] == "completed"
    assert world.money() == (CREDIT - 60 * 30 * UNIT, 0)


def test_a_panels_text_is_no_expiry(world: World) -> None:
    number = subscribe(world, posts=1, expiry="31/12/2027")
    for said, shown in (("renew at https://panel.test/x", None), (True, None), ("31/12/2027", "31/12/2027")):
        script(world, {OWN: {"status": "Active", "orders": [], "posts": 0, "expiry": said}})
        world.time.at += 16 * SECOND
        assert v2(world, {"action": "status", "order": number}).json["expiry"] == shown


def test_a_partial_subscription_is_over(world: World) -> None:
    number = subscribe(world, posts=1)
    script(world, {OWN: {"status": "Partial", "orders": []}})
    world.time.at += 16 * SECOND
    assert v2(world, {"action": "status", "order": number}).json["status"] == "Completed"
    assert world.money() == (CREDIT, 0)


# admit, providers, the order, secret, status, statuses of the children, two adoptions, the end, the reading
CALLS = 10


def _look_through(world: World, wire: Wire) -> int:
    """Let a subscription of two orders end in a container whose I/O passes the wire; return its id."""
    number = subscribe(world, posts=3)
    children = {900: CHILD, 901: {**CHILD, "charge": "0.0070"}}
    script(world, {OWN: {"status": "Completed", "orders": [900, 901]}, **children})
    world.time.at += 16 * SECOND
    whole, table, secrets = world.parts, world.parts.table.client, world.secrets
    world.parts = world.twin(wire.client(table), wire.client(secrets), wire.sender())
    with contextlib.suppress(Killed):
        v3(world, {"action": "status", "order": number})
    world.parts = whole
    return number


def test_the_calls_of_a_look_at_a_subscription(world: World) -> None:
    wire = Wire(world)
    _look_through(world, wire)
    assert wire.calls == CALLS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("at", range(CALLS))
def test_no_fault_charges_a_child_twice_or_keeps_the_hold(world: World, at: int, fault: Fault) -> None:
    number = _look_through(world, Wire(world, fault, at))
    shown = [look(world, number) for _ in range(2)][-1]
    assert (shown["status"], len(set(shown["orders"]))) == ("completed", 2)
    assert world.money() == (CREDIT - (30 + 20) * UNIT, 0)
