"""What the table makes of answers that no emulator gives by itself, and of more than one page."""

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.clock import SECOND
from chalicelib.model import Account, OrderState
from chalicelib.ports import Accounts, Mark
from tests.aws.test_orders import UNTIL, accepted
from tests.faults import TRANSACT, StoreFault, faulty, store_error
from tests.world import World

CREDIT, PRICE = 100 * SECOND, 900_000


def answers(code: str, since: int) -> StoreFault:
    """Return a store that answers transactions from a given one on with an error code."""
    numbers = itertools.count()

    def answer(name: str, _request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if name == TRANSACT and next(numbers) >= since:
            raise store_error(code)
        return call()

    return answer


@pytest.mark.parametrize("code", ["IdempotentParameterMismatchException", "ValidationException"])
def test_what_the_store_will_never_take_is_not_tried_again_and_buys_nothing(world: World, code: str) -> None:
    with pytest.raises(ClientError):
        world.add(parts=faulty(world, answers(code, 0)))
    assert not world.panel.requests
    assert world.money() == (CREDIT, 0)


def test_a_purchase_that_the_store_will_not_take_stays_to_be_settled(world: World) -> None:
    with pytest.raises(ClientError):
        world.add(parts=faulty(world, answers("IdempotentParameterMismatchException", 1)))
    [order] = world.parts.orders.page("acme")
    assert order.state is OrderState.SENDING
    assert [one.id for one in world.parts.orders.unsettled(Account("smosale"))] == [order.id]
    assert (len(world.panel.purchases), world.money()) == (1, (CREDIT - PRICE, PRICE))


def test_of_more_than_a_page_of_unsettled_orders_none_is_missing(world: World) -> None:
    world.parts.wallet.credit("acme", 1000 * SECOND, reference="more")
    made = {accepted(world, id=2_000_000 + n, link="https://example.com/" + "x" * 9000).id for n in range(130)}
    assert {order.id for order in world.parts.orders.unsettled(Account("smosale"))} == made
    assert {order.id for order in world.parts.orders.page("acme")} == made


def test_marks_are_paged_newest_first(world: World) -> None:
    accounts: Accounts = world.parts.settlement.accounts
    for n in range(25):
        mark = Mark(at=UNTIL + n, balance=Decimal(n), top=n, top_after=n, charges={}, unsettled=frozenset())
        accounts.add(Account("smosale"), mark, until=UNTIL)
    assert [mark.top for mark in accounts.marks(Account("smosale"))] == list(range(24, -1, -1))
