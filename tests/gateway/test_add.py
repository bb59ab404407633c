"""What becomes of an ``add``: placed, refused or unknown, and where the money is then."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib.clock import SECOND
from chalicelib.commands import AddCommand
from chalicelib.errors import Code, Refusal
from chalicelib.model import Account, Funding, OrderState, OrderStatus, Tenant
from chalicelib.panels.dialect import Reply
from tests.faults import Killed
from tests.world import (
    FOLLOWERS,
    LINK,
    PretendPanel,
    World,
    buys_and_loses_the_answer,
    cannot_be_reached,
    loses_the_request,
    says,
)

CREDIT = 100 * SECOND
PRICE = 900_000  # 1000 at 0.90 per 1000


def test_a_placed_order_is_paid_once_and_reaches_the_panel_as_it_was_asked(world: World) -> None:
    receipt = world.add(runs=3, interval=15, campaign="autumn")

    assert receipt.charged == 3 * PRICE
    assert not receipt.pending
    assert world.money() == (CREDIT - 3 * PRICE, 0)
    [purchase] = world.panel.purchases
    del purchase["key"]
    assert purchase == {
        "action": "add",
        "service": "1",
        "link": LINK,
        "quantity": "1000",
        "runs": "3",
        "interval": "15",
        "campaign": "autumn",
    }


def test_the_order_knows_its_purchase_and_the_key_version_that_made_it(world: World) -> None:
    order = world.parts.orders.get("acme", world.add().order)

    assert order is not None
    assert order.state is OrderState.PLACED
    assert order.provider_order == 23501
    assert order.attempt.key_version == "0" * 32


@pytest.mark.parametrize(
    "behaviour", [buys_and_loses_the_answer, loses_the_request, says("?"), says({"error": "Zounds"})]
)
def test_an_unknown_outcome_holds_the_money_and_is_never_sent_again(world: World, behaviour: object) -> None:
    world.panel.behaviours["add"] = behaviour  # type: ignore[assignment]

    receipt = world.add(idempotency_key="k1")
    again = world.add(idempotency_key="k1")

    assert receipt.pending
    assert again == replace(receipt, replayed=True)
    assert world.panel.asked("add") == 1
    assert world.money() == (CREDIT - PRICE, PRICE)
    assert world.status(receipt.order).status is OrderStatus.PENDING
    order = world.parts.orders.get("acme", receipt.order)
    assert order is not None
    assert order.state is OrderState.UNKNOWN
    assert order.evidence


def test_what_was_never_sent_gives_the_money_back_and_frees_the_key(world: World) -> None:
    world.panel.behaviours["add"] = cannot_be_reached

    with pytest.raises(Refusal) as refused:
        world.add(idempotency_key="k1")

    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert refused.value.retry_after
    assert world.money() == (CREDIT, 0)
    world.panel.behaviours.clear()
    assert not world.add(idempotency_key="k1").replayed
    assert len(world.panel.purchases) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("neworder.error.link_duplicate", Code.DUPLICATE_LINK),
        ("Incorrect service ID", Code.SERVICE_NOT_FOUND),
        ("Incorrect link", Code.INVALID_LINK),
        ("Quantity less than minimal 100", Code.INVALID_QUANTITY),
    ],
)
def test_a_refusal_is_an_answer_and_is_replayed(world: World, text: str, code: Code) -> None:
    world.panel.behaviours["add"] = says({"error": text})

    for replayed in (False, True, True):
        with pytest.raises(Refusal) as refused:
            world.add(idempotency_key="k1")
        assert (refused.value.code, refused.value.replayed) == (code, replayed)

    assert world.panel.asked("add") == 1
    assert world.money() == (CREDIT, 0)


@pytest.mark.parametrize("text", ["Not enough funds on balance", "Invalid API key"])
def test_the_operators_trouble_is_not_the_orders(world: World, text: str) -> None:
    world.panel.behaviours["add"] = says({"error": text})

    with pytest.raises(Refusal) as refused:
        world.add(idempotency_key="k1")

    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert "funds" not in refused.value.message.lower()
    assert world.money() == (CREDIT, 0)
    world.panel.behaviours.clear()
    assert not world.add(idempotency_key="k1").replayed


def test_an_id_that_another_order_has_is_an_unknown_outcome(world: World) -> None:
    world.panel.behaviours["add"] = says({"order": 555})
    first, second = world.add(), world.add()

    assert not first.pending
    assert second.pending
    assert world.money() == (CREDIT - 2 * PRICE, PRICE)


def test_two_equal_orders_without_a_key_are_two_orders(world: World) -> None:
    assert world.add().order != world.add().order
    assert len(world.panel.purchases) == 2


def test_a_key_belongs_to_its_tenant(world: World) -> None:
    other = world.add_tenant(Tenant(id="other"))

    world.add(idempotency_key="k1")
    assert not world.add(other, idempotency_key="k1").replayed
    assert len(world.panel.purchases) == 2


def test_a_key_with_another_meaning_is_refused_and_harms_nothing(world: World) -> None:
    first = world.add(idempotency_key="k1")

    with pytest.raises(Refusal) as refused:
        world.add(idempotency_key="k1", quantity=2000)

    assert refused.value.code is Code.IDEMPOTENCY_KEY_REUSED
    assert world.add(idempotency_key="k1").order == first.order
    assert world.panel.asked("add") == 1


def test_text_and_numbers_mean_the_same(world: World) -> None:
    first = world.add(idempotency_key="k1", service=1001, quantity=1000)
    assert world.add(idempotency_key="k1", service="1001", quantity="1000", runs="0", comments="").order == first.order


def test_the_first_answer_stands_when_the_service_is_gone(world: World) -> None:
    first = world.add(idempotency_key="k1")
    world.parts.catalog.sync("smosale", [])
    later = world.twin()

    assert world.add(idempotency_key="k1", parts=later).order == first.order
    with pytest.raises(Refusal) as refused:
        world.add(idempotency_key="k2", parts=later)
    assert refused.value.code is Code.SERVICE_NOT_FOUND


def test_a_sender_that_died_has_said_which_key_it_was_about_to_use(world: World) -> None:
    """All later ones of a container know it, the first one does not."""

    def dies(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        panel.buy(fields)
        raise Killed

    world.panel.behaviours["add"] = dies
    for _ in range(2):
        with pytest.raises(Killed):
            world.add()
        world.time.sleep(1)
    last, first = world.parts.orders.page("acme")
    assert (first.attempt.key_version, last.attempt.key_version) == ("", "0" * 32)
    world.time.sleep(200)
    assert world.parts.orders.lose(last, "?", until=world.time.at + SECOND)
    [lost, _] = world.parts.orders.page("acme")
    assert (lost.state, lost.attempt.key_version) == (OrderState.UNKNOWN, "0" * 32)


def test_a_sender_that_died_leaves_an_order_that_is_in_progress_and_then_unknown(world: World) -> None:
    def dies(_panel: object, _fields: object) -> object:
        raise Killed

    world.panel.behaviours["add"] = dies  # type: ignore[assignment]
    with pytest.raises(Killed):
        world.add(idempotency_key="k1")
    world.panel.behaviours.clear()

    with pytest.raises(Refusal) as refused:
        world.add(idempotency_key="k1")
    assert refused.value.code is Code.REQUEST_IN_PROGRESS
    assert refused.value.retry_after

    world.time.sleep(200)
    receipt = world.add(idempotency_key="k1")
    assert receipt.pending
    assert receipt.replayed
    assert world.panel.asked("add") == 1
    assert world.money() == (CREDIT - PRICE, PRICE)


def test_a_key_is_its_orders_for_good(world: World) -> None:
    first = world.add(idempotency_key="k1")
    world.time.sleep(400 * 24 * 3600)
    again = world.add(idempotency_key="k1", parts=world.twin())
    assert (again.order, again.replayed) == (first.order, True)
    assert world.panel.asked("add") == 1


def test_whatever_is_raised_after_the_acceptance_the_record_is_kept(world: World) -> None:
    def breaks(_panel: object, _fields: object) -> object:
        raise ArithmeticError("a defect of ours")

    world.panel.behaviours["add"] = breaks  # type: ignore[assignment]
    with pytest.raises(ArithmeticError):
        world.add(idempotency_key="k1")
    world.panel.behaviours.clear()
    world.time.sleep(200)
    assert world.add(idempotency_key="k1").pending
    assert world.panel.asked("add") == 1
    assert world.money() == (CREDIT - PRICE, PRICE)


def test_without_money_nothing_is_sent(world: World) -> None:
    poor = world.add_tenant(Tenant(id="poor"), credit=PRICE - 1)
    penniless = world.add_tenant(Tenant(id="penniless"), credit=0)

    for key in (poor, penniless):
        with pytest.raises(Refusal) as refused:
            world.add(key)
        assert refused.value.code is Code.INSUFFICIENT_FUNDS
    assert not world.panel.requests


def test_a_tenant_with_its_providers_money_needs_no_wallet(world: World) -> None:
    key = world.add_tenant(Tenant(id="direct", funding=Funding.PROVIDER, providers=frozenset({"smosale"})), credit=0)
    assert world.add(key).charged == PRICE
    assert world.money("direct") == (0, 0)


def test_the_markup_is_charged(world: World) -> None:
    key = world.add_tenant(Tenant(id="dear", markup=Decimal("0.1")))
    assert world.add(key).charged == 990_000


def test_a_price_above_max_charge_is_refused_before_anything_is_sent(world: World) -> None:
    assert world.add(max_charge="0.9").charged == PRICE
    with pytest.raises(Refusal) as refused:
        world.add(max_charge="0.899999")
    assert refused.value.code is Code.PRICE_CHANGED
    assert world.panel.asked("add") == 1


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"quantity": 49}, Code.INVALID_QUANTITY, "Quantity less than minimal 50"),
        ({"quantity": 10001}, Code.INVALID_QUANTITY, "Quantity more than maximum 10000"),
        ({"service": 1002}, Code.SERVICE_NOT_FOUND, "There is no such service"),
        ({"service": 1}, Code.SERVICE_NOT_FOUND, "There is no such service"),
        ({"service": 9001}, Code.SERVICE_NOT_FOUND, "There is no such service"),
        ({"service": 2001}, Code.INVALID_REQUEST, "The field quantity does not belong to this service's type"),
    ],
)
def test_what_the_panel_would_refuse_is_refused_before(
    world: World, fields: dict[str, Any], code: Code, message: str
) -> None:
    with pytest.raises(Refusal) as refused:
        world.add(**fields)
    assert (refused.value.code, refused.value.message) == (code, message)
    assert not world.panel.requests


def test_a_type_that_the_protocol_does_not_know_cannot_be_ordered(world: World) -> None:
    world.parts.catalog.sync("smosale", [replace(FOLLOWERS, type="Quantum Likes")])
    with pytest.raises(Refusal) as refused:
        world.add()
    assert refused.value.code is Code.NOT_SUPPORTED
    assert not world.panel.requests


def test_too_little_time_left_starts_nothing(world: World) -> None:
    session = world.session()
    world.time.sleep(19.5)
    with pytest.raises(Refusal) as refused:
        world.parts.gateway.execute(session, AddCommand.read({"service": 1001, "link": LINK, "quantity": 100}))
    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert not world.panel.requests
    assert world.money() == (CREDIT, 0)


def test_a_rotated_key_is_used_at_once_when_the_old_one_is_rejected(world: World) -> None:
    world.add()
    world.put_key(Account("smosale"), "pk-the-new-one-99", token="1" * 32)
    world.panel.keys = {"pk-the-new-one-99"}

    receipt = world.add()

    assert not receipt.pending
    order = world.parts.orders.get("acme", receipt.order)
    assert order is not None
    assert order.attempt.key_version == "1" * 32
    assert order.attempts == 2
    assert order.earlier_keys == ("0" * 32,)
    assert len(world.panel.purchases) == 2


def test_the_dedupe_window_returns_the_earlier_order(world: World) -> None:
    key = world.add_tenant(Tenant(id="careful", dedupe=120))
    first = world.add(key)
    assert world.add(key).order == first.order
    assert world.add(key, quantity=500).order != first.order
    world.time.sleep(121)
    assert world.add(key).order != first.order
    assert len(world.panel.purchases) == 3


def test_a_tenant_may_demand_keys(world: World) -> None:
    key = world.add_tenant(Tenant(id="strict", require_idempotency=True))
    with pytest.raises(Refusal) as refused:
        world.add(key)
    assert refused.value.code is Code.INVALID_REQUEST
    assert world.add(key, idempotency_key="k").order
