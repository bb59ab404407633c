"""The journal: who may move an order where, and that its money moves with it, once."""

import secrets
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib.actions import Placed
from chalicelib.clock import SECOND
from chalicelib.errors import AlreadyBound
from chalicelib.jobs import sweep_orders
from chalicelib.model import Account, Attempt, Funding, Order, OrderState, OrderStatus, Reading
from chalicelib.ports import Accepted, Broke, Claimed
from tests.faults import faulty
from tests.stage import START
from tests.world import LINK, World

CREDIT, PRICE = 100 * SECOND, 900_000
UNTIL = START + 1000 * SECOND


def draft(**changes: Any) -> Order:
    order = Order(
        id=1_000_001,
        tenant="acme",
        client="acme.abcdef",
        provider="smosale",
        service=1,
        public_service=1001,
        link=LINK,
        quantity=1000,
        runs=None,
        interval=None,
        charge=PRICE,
        rate=900_000,
        cost=Decimal("0.90"),
        funding=Funding.WALLET,
        state=OrderState.SENDING,
        attempt=Attempt(token=secrets.token_hex(16), send_by=START + 19 * SECOND),
        created=START,
        updated=START,
        fingerprint="f",
    )
    return replace(order, **changes)


def accepted(world: World, **changes: Any) -> Order:
    acceptance = world.parts.orders.accept(draft(**changes), until=UNTIL)
    assert isinstance(acceptance, Accepted)
    return acceptance.order


def state(world: World, order: Order) -> OrderState:
    found = world.parts.orders.get("acme", order.id)
    assert found is not None
    return found.state


def test_an_order_keeps_every_field(world: World) -> None:
    order = accepted(world, runs=2, interval=15, extra={"a": "b"}, idempotency_key="k", claim="KEY#k")
    assert world.parts.orders.get("acme", order.id) == order


def test_a_taken_id_is_drawn_again(world: World) -> None:
    first, second = accepted(world), accepted(world)
    assert first.id == 1_000_001
    assert second.id != first.id
    assert world.money() == (CREDIT - 2 * PRICE, 2 * PRICE)


def test_accepting_twice_under_one_attempt_is_once(world: World) -> None:
    order = draft()
    for _ in range(2):
        assert world.parts.orders.accept(order, until=UNTIL) == Accepted(order)
    assert world.money() == (CREDIT - PRICE, PRICE)


def test_a_claim_is_taken_once(world: World) -> None:
    first = accepted(world, claim="KEY#k")
    assert world.parts.orders.accept(draft(claim="KEY#k"), until=UNTIL) == Claimed(first)
    assert world.parts.orders.claimed("acme", "KEY#k") == first
    assert world.parts.orders.claimed("other", "KEY#k") is None
    assert world.money() == (CREDIT - PRICE, PRICE)


def test_an_order_that_cannot_be_paid_leaves_nothing(world: World) -> None:
    assert world.parts.orders.accept(draft(charge=CREDIT + 1, claim="KEY#k"), until=UNTIL) == Broke()
    assert world.parts.orders.get("acme", 1_000_001) is None
    assert world.parts.orders.claimed("acme", "KEY#k") is None
    assert world.money() == (CREDIT, 0)


def test_placing_twice_captures_once(world: World) -> None:
    order = accepted(world)
    for _ in range(2):
        assert world.parts.orders.place(order, Placed(77), until=UNTIL)
    assert world.money() == (CREDIT - PRICE, 0)


def test_rejecting_twice_releases_once(world: World) -> None:
    order = accepted(world)
    for _ in range(2):
        assert world.parts.orders.reject(order, {"code": "invalid_link", "message": "no"}, until=UNTIL)
    assert world.money() == (CREDIT, 0)


def test_who_was_placed_cannot_be_rejected_and_the_other_way_round(world: World) -> None:
    placed, rejected = accepted(world), accepted(world)
    world.parts.orders.place(placed, Placed(77), until=UNTIL)
    world.parts.orders.reject(rejected, None, until=UNTIL)
    assert not world.parts.orders.reject(placed, None, until=UNTIL)
    assert not world.parts.orders.place(rejected, Placed(78), until=UNTIL)
    assert not world.parts.orders.lose(placed, "?", until=UNTIL)
    assert (state(world, placed), state(world, rejected)) == (OrderState.PLACED, OrderState.REJECTED)
    assert world.money() == (CREDIT - PRICE, 0)


@pytest.mark.parametrize("move", ["place", "reject", "lose", "reattempt"])
def test_only_the_holder_of_the_attempt_moves_an_order(world: World, move: str) -> None:
    order = accepted(world)
    stranger = replace(order, attempt=replace(order.attempt, token="0" * 32))
    orders = world.parts.orders
    moves: dict[str, Any] = {
        "place": lambda: orders.place(stranger, Placed(77), until=UNTIL),
        "reject": lambda: orders.reject(stranger, None, until=UNTIL),
        "lose": lambda: orders.lose(stranger, "?", until=UNTIL),
        "reattempt": lambda: orders.reattempt(stranger, stranger.attempt, until=UNTIL),
    }
    assert not moves[move]()
    assert state(world, order) is OrderState.SENDING
    assert world.money() == (CREDIT - PRICE, PRICE)


def test_a_new_attempt_ends_the_old_one(world: World) -> None:
    old = accepted(world)
    new = world.parts.orders.reattempt(old, replace(old.attempt, token="1" * 32), until=UNTIL)
    assert new is not None
    assert (new.attempts, new.earlier_keys) == (2, (old.attempt.key_version,))
    assert not world.parts.orders.reject(old, None, until=UNTIL)
    assert world.parts.orders.place(new, Placed(77), until=UNTIL)


def test_a_late_success_still_counts_after_the_sweeper(world: World) -> None:
    order = accepted(world)
    world.time.sleep(300)
    assert sweep_orders(world.parts) == {"done": 1, "failed": 0}
    assert state(world, order) is OrderState.UNKNOWN
    assert world.parts.orders.place(order, Placed(77), until=UNTIL)
    assert state(world, order) is OrderState.PLACED
    assert world.money() == (CREDIT - PRICE, 0)


def test_a_late_refusal_still_gives_the_money_back_after_the_sweeper(world: World) -> None:
    order = accepted(world)
    world.time.sleep(300)
    sweep_orders(world.parts)
    assert not world.parts.orders.reject(order, None, until=UNTIL), "its id may have been told: no refusal any more"
    assert state(world, order) is OrderState.NOT_PLACED
    assert world.money() == (CREDIT, 0)


def test_the_sweeper_leaves_alone_whose_sender_may_live(world: World) -> None:
    order = accepted(world)
    world.time.sleep(19 + 25)
    assert sweep_orders(world.parts) == {"done": 0, "failed": 0}
    assert state(world, order) is OrderState.SENDING


def test_what_an_index_that_lags_names_is_read_before_it_is_believed(world: World) -> None:
    order = accepted(world)
    world.parts.orders.place(order, Placed(77), until=UNTIL)
    stale = world.parts.table.client.query(
        TableName=world.parts.table.name,
        IndexName="open-orders",
        KeyConditionExpression="#open = :open",
        ExpressionAttributeNames={"#open": "open"},
        ExpressionAttributeValues={":open": {"S": "placed#smosale"}},
    )
    assert stale["Count"] == 1
    gone = Reading(status=OrderStatus.CANCELED, start_count=None, remains=0, at=START + 1)
    world.parts.orders.observe(order, gone, refunded=PRICE, until=UNTIL)

    parts = faulty(world, lambda name, _request, call: stale if name == "query" else call())
    assert not list(parts.orders.open(Account("smosale"), before=UNTIL))


def test_a_providers_order_belongs_to_one_of_ours(world: World) -> None:
    first, second = accepted(world), accepted(world)
    world.parts.orders.place(first, Placed(77), until=UNTIL)
    with pytest.raises(AlreadyBound):
        world.parts.orders.place(second, Placed(77), until=UNTIL)
    assert state(world, second) is OrderState.SENDING
    assert world.money() == (CREDIT - 2 * PRICE, PRICE)


def test_an_older_reading_does_not_replace_a_newer_one(world: World) -> None:
    order = accepted(world)
    for at in (START + 2, START + 1):
        reading = Reading(status=OrderStatus.PENDING, start_count=None, remains=None, at=at)
        world.parts.orders.observe(order, reading, refunded=0, until=UNTIL)
    found = world.parts.orders.get("acme", order.id)
    assert found is not None
    assert found.reading is not None
    assert found.reading.at == START + 2


def test_orders_are_listed_newest_first(world: World) -> None:
    ids = [accepted(world, id=1_000_010 - n, created=START + n).id for n in range(3)]
    assert [order.id for order in world.parts.orders.page("acme")] == ids[::-1]
