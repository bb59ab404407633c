"""What becomes of orders whose outcome is not known: bound on proof, paid back on proof, else the operator's."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib import money
from chalicelib.actions import Placed
from chalicelib.aws.rotations import Rotation, Rotations, Step
from chalicelib.clock import MINUTE, SECOND
from chalicelib.jobs import needing_decision, settle_orders
from chalicelib.model import Account, Order, OrderState, Source, Tenant
from chalicelib.panels.dialect import Reply, Request
from sandbox.faults import ActiveFault
from sandbox.panel import Customer
from tests.api.http import v3
from tests.market import Market
from tests.settling import QUIET, Shop
from tests.world import LINK

# Each minute that passes looks at every panel that there is.
pytestmark = pytest.mark.panels("smosale")
CREDIT = 1000 * SECOND
UNKNOWN, PLACED, NOT_PLACED = OrderState.UNKNOWN, OrderState.PLACED, OrderState.NOT_PLACED


def opened(market: Market, slug: str = "smosale", **changes: Any) -> Shop:
    """Return a shop with an exclusive key, an order of ours and a mark after it."""
    shop = Shop.of(market, slug, **changes)
    shop.buy(slug)
    shop.wait()
    return shop


def refusing(panel: Any, number: int) -> None:
    """Let a panel show of an order what no table can read."""
    panel.orders[number].shown = {"status": None, "error": "Something went wrong"}


# -- the provider's pending number -------------------------------------------------------------------------------------


def pending(shop: Shop) -> Order:
    shop.market.panel("smmafrica").faults.append(ActiveFault("pending", action="add", count=1))
    order = shop.buy("smmafrica")
    assert (order.state, order.pending_order is not None) == (UNKNOWN, True)
    return order


@pytest.mark.panels("smmafrica")
def test_a_pending_number_is_confirmed_by_the_schedule(market: Market) -> None:
    shop = Shop.of(market)
    order = pending(shop)
    shop.wait()
    found = shop.look(order)
    assert (found.state, found.provider_order) == (PLACED, order.pending_order)
    assert found.journal[-1].source is Source.SETTLEMENT
    assert market.money() == (CREDIT - order.charge, 0)


@pytest.mark.panels("smmafrica")
def test_a_pending_number_is_confirmed_at_once_when_a_tenant_asks(market: Market) -> None:
    shop = Shop.of(market)
    order = pending(shop)
    told = v3(market, {"action": "status", "order": order.id}).json
    assert told["stale"] is False
    found = shop.look(order)
    assert (found.state, found.provider_order) == (PLACED, order.pending_order)
    assert PLACED in [change.now for change in found.journal if change.source is Source.PANEL]


@pytest.mark.panels("smmafrica")
@pytest.mark.parametrize("exclusive", [(), ("smmafrica",)], ids=["shared", "exclusive"])
def test_a_pending_number_that_is_never_confirmed_is_the_operators(market: Market, exclusive: tuple[str]) -> None:
    shop = Shop.of(market, *exclusive)
    shop.buy("smmafrica")
    shop.wait()
    order = pending(shop)
    market.panel("smmafrica").orders[order.pending_order or 0].shown = {"status": "unknown"}
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN, shop.look(order).evidence
    assert [one.id for one in needing_decision(market.parts)] == [order.id]
    assert market.money()[1] == order.charge
    market.panel("smmafrica").orders[order.pending_order or 0].shown = {}
    shop.wait()
    assert shop.look(order).state is PLACED


@pytest.mark.panels("smmafrica")
def test_of_an_order_with_a_pending_number_no_other_number_is_believed(market: Market) -> None:
    shop = opened(market, "smmafrica")
    order = pending(shop)
    market.panel("smmafrica").orders[order.pending_order or 0].shown = {"status": "unknown"}
    shop.foreign("smmafrica")
    shop.wait(3)
    assert shop.look(order).state is UNKNOWN


# -- the numbers between -----------------------------------------------------------------------------------------------


@pytest.mark.panels("smosale", "smmrich", "mysticsmm", "smmafrica")
@pytest.mark.parametrize("slug", ["smosale", "smmrich", "mysticsmm", "smmafrica"])
def test_the_one_order_that_fits_is_bound(market: Market, slug: str) -> None:
    shop = opened(market, slug)
    order = shop.buy(slug, 1234, lost="after")
    shop.buy(slug)
    shop.wait(2)
    found = shop.look(order)
    assert found.state is PLACED
    assert market.panel(slug).orders[found.provider_order or 0].quantity == 1234
    assert found.journal[-2 if found.reading else -1].source is Source.SETTLEMENT
    assert "only one around that fits" in found.evidence[-1]
    assert market.money()[1] == 0


def test_without_an_exclusive_key_there_is_evidence_and_no_more(market: Market) -> None:
    shop = Shop.of(market)
    shop.buy("smosale")
    shop.wait()
    order = shop.buy("smosale", 1234, lost="after")
    shop.wait(15)
    found = shop.look(order)
    assert found.state is UNKNOWN
    assert any("others may have placed them" in sentence for sentence in found.evidence)


def test_of_two_that_fit_none_is_bound(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", lost="after")
    shop.foreign("smosale")
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN
    assert any("several orders" in sentence for sentence in shop.look(order).evidence)


def test_of_two_lost_orders_that_fit_the_one_number_none_gets_it(market: Market) -> None:
    shop = opened(market)
    other = market.add_tenant(Tenant(id="beta", interval=1, burst=1000))
    lost = [shop.buy("smosale", lost="after"), shop.buy("smosale", lost="before", key=other)]
    shop.wait(3)
    assert [shop.look(one).state for one in lost] == [UNKNOWN, UNKNOWN]
    assert any("unsettled orders" in sentence for sentence in shop.look(lost[0]).evidence)


def test_orders_of_two_tenants_under_one_id_are_told_apart(market: Market) -> None:
    shop = opened(market)
    market.add_tenant(Tenant(id="beta", interval=1, burst=1000))
    mine = shop.buy("smosale", 1234, lost="before")
    theirs = replace(mine, tenant="beta", state=OrderState.SENDING, journal=(), evidence=(), pending=False)
    market.parts.orders.accept(theirs, until=2**62)
    market.parts.orders.lose(theirs, "lost", until=2**62)
    shop.foreign("smosale", 1234)
    shop.wait(3)
    assert [shop.look(one).state for one in (mine, theirs)] == [UNKNOWN, UNKNOWN]


@pytest.mark.parametrize(
    "shown",
    [{"charge": "0.5"}, {"charge": "1.1107", "remains": "5000"}, {"status": "Active", "posts": "0"}, {"charge": None}],
    ids=["charge", "remains", "type", "no charge"],
)
def test_what_does_not_fit_is_not_bound(market: Market, shown: dict[str, Any]) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="after")
    [sold] = [one for one in market.bought("smosale") if one.quantity == 1234]
    sold.shown = shown
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN, "and its money is not proved to be there"


def test_a_candidate_that_cannot_be_seen_now_still_counts(market: Market) -> None:
    """Two fit, and one of them cannot be read this time: the other one is not the only one."""
    shop = opened(market)
    order = shop.buy("smosale", lost="before")
    first, second = shop.foreign("smosale", count=2)
    shop.wait()
    assert len((shop.look(order).search or order).candidates) == 2  # type: ignore[union-attr]
    refusing(market.panel("smosale"), second.id)
    shop.wait(5)
    found = shop.look(order)
    assert found.state is UNKNOWN, (found.provider_order, first.id)


def test_numbers_that_cannot_be_read_are_asked_for_again(market: Market) -> None:
    """Two orders are looked at in one run: what the panel did not answer the first is no answer to the second."""
    shop = opened(market)
    lost = [shop.buy("smosale", 1234, lost="after"), shop.buy("smosale", 2345, lost="after")]
    shop.buy("smosale")
    market.panel("smosale").faults.append(ActiveFault("html", action="status"))
    shop.wait(2)
    market.panel("smosale").faults.clear()
    shop.wait(2)
    assert [shop.look(one).state for one in lost] == [PLACED, PLACED]


def test_a_number_that_is_refused_otherwise_than_as_unknown_is_not_taken_for_none(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="after")
    [sold] = [one for one in market.bought("smosale") if one.quantity == 1234]
    panel = market.panel("smosale")
    hidden = panel.orders[sold.id]
    hidden.shown = {"error": "Incorrect request"}
    for name in ("status", "charge", "remains", "start_count", "currency"):
        hidden.shown[name] = None
    shop.wait(2)
    hidden.shown = {}
    shop.wait(2)
    assert shop.look(order).state is PLACED


@pytest.mark.parametrize("rank", [0, 1])
def test_what_a_subscription_made_is_not_a_lost_order(market: Market, rank: int) -> None:
    """Its wallet holds no more, so that its second order is not taken in; that fits a lost one by its charge."""
    shop = opened(market)
    kind = next(one for one in market.panel("smosale").services.values() if one.type == "Subscriptions")
    rate = [one for one in market.panel("smosale").services.values() if one.type == "Default"][rank].rate
    quantity = int(200 * kind.rate / rate)
    fields: dict[str, Any] = {"username": "someone", "min": 200, "max": 200, "delay": 0, "link": None, "quantity": None}
    poor = market.add_tenant(Tenant(id="poor", interval=1, burst=1000), credit=money.micros(200 * kind.rate / 1000))
    parent = shop.buy("smosale", key=poor, service=market.service("smosale", "Subscriptions"), **fields)
    shop.wait()
    assert len(shop.look(parent).children) == 1
    order = shop.buy("smosale", quantity, lost="before", service=shop.service("smosale", rank))
    for _ in range(2):
        market.time.at += 12 * SECOND
        market.panel("smosale").funds()  # the second order is made, and then it begins
    settle_orders(market.parts)
    sold = market.panel("smosale").orders[parent.provider_order or shop.look(parent).provider_order or 0].subscription
    assert sold is not None
    assert len(sold.children) == 2
    found = shop.look(order)
    assert found.search is not None
    assert found.state is UNKNOWN, (found.provider_order, found.evidence)


@pytest.mark.parametrize(("quantity", "state"), [(400, UNKNOWN), (1234, PLACED)])
def test_a_drip_feed_that_names_no_orders_may_have_made_what_costs_as_much_as_one_run(
    market: Market, quantity: int, state: OrderState
) -> None:
    shop = opened(market)
    service = market.service("smosale", "Default")
    shop.buy("smosale", 400, service=service, runs=5, interval=60, link=f"{LINK}/slowstart")
    shop.wait()
    order = shop.buy("smosale", quantity, lost="after", service=service)
    shop.wait(2)
    found = shop.look(order)
    assert found.state is state
    assert any("may have been made by" in sentence for sentence in found.evidence) is (state is UNKNOWN)


def test_an_unsettled_subscription_may_have_made_what_fits(market: Market) -> None:
    shop = opened(market)
    fields: dict[str, Any] = {"username": "someone", "min": 200, "max": 200, "delay": 0, "link": None, "quantity": None}
    shop.buy("smosale", lost="after", service=market.service("smosale", "Subscriptions"), **fields)
    order = shop.buy("smosale", 1234, lost="before")
    shop.foreign("smosale", 1234)
    provider = market.registry.provider("smosale")
    market.time.at += SECOND
    market.parts.settlement.run(provider, end=market.time.at + 50 * SECOND)
    assert shop.look(order).state is UNKNOWN


def test_an_order_on_its_way_is_not_a_lost_one(market: Market) -> None:
    """While the settlement looks, another one is bought that fits, and its answer is not there yet."""
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="before")
    flying: list[Order] = []

    class Meanwhile:
        def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
            if not flying and b"orders" in request.body and shop.look(order).search is not None:
                flying.append(shop.buy("smosale", 1234, lost="after"))
            return market.network.send(url, request, deadline=deadline, send_by=send_by)

    looking = market.twin(sender=Meanwhile())
    shop.wait()
    market.time.at += MINUTE
    provider = market.registry.provider("smosale")
    looking.settlement.run(provider, end=market.time.at + 50 * SECOND)
    assert flying
    assert shop.look(order).state is UNKNOWN, "its number is the other one's"
    assert shop.look(flying[0]).state is UNKNOWN


def test_a_window_that_was_not_seen_whole_proves_nothing(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="before")
    shop.foreign("smosale", 1234)
    shop.foreign("smosale", 100, rank=1, count=30)
    for n in range(30):
        refusing(market.panel("smosale"), max(market.panel("smosale").orders) - n)
    shop.wait(3)
    assert shop.look(order).state is UNKNOWN
    assert not any("no order above" in sentence for sentence in shop.look(order).evidence)


def test_more_strangers_than_are_kept_hide_nothing(market: Market) -> None:
    shop = opened(market)
    shop.foreign("smosale", 500, count=45)
    order = shop.buy("smosale", 1234, lost="after")
    shop.foreign("smosale", 500, count=5)
    shop.wait(3)
    found = shop.look(order)
    assert found.search is not None
    assert len(found.search.candidates) <= 40
    assert not any("no order above" in sentence for sentence in found.evidence), "it is there, beyond them"


def test_an_order_that_shows_late_under_a_number_of_before_is_found(market: Market) -> None:
    """The panel gave the number, and showed the order only when it was done with it."""
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="after")
    panel = market.panel("smosale")
    [sold] = [one for one in market.bought("smosale") if one.quantity == 1234]
    del panel.orders[sold.id]
    panel._live.discard(sold.id)  # noqa: SLF001 - a panel that hides it has no order of it
    shop.buy("smosale")
    shop.wait(2)
    panel.orders[sold.id] = sold
    panel._live.add(sold.id)  # noqa: SLF001 - as above
    shop.wait(12)
    assert shop.look(order).state is PLACED


def test_a_late_purchase_is_bound(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="before")
    shop.wait(3)
    shop.lossy.arrive()
    shop.wait(2)
    assert shop.look(order).state is PLACED
    assert market.money()[1] == 0


# -- the balance -------------------------------------------------------------------------------------------------------


def test_a_balance_proves_after_the_quiet_period_and_not_before(market: Market) -> None:
    shop = opened(market)
    paid = market.money()[0]
    order = shop.buy("smosale", 1234, lost="before")
    lost_at = market.time.at
    while market.time.at < lost_at + QUIET:
        assert shop.look(order).state is UNKNOWN
        shop.wait()
    shop.wait(3)
    found = shop.look(order)
    assert found.state is NOT_PLACED
    assert "the balance went from" in found.evidence[-1]
    assert found.journal[-1].source is Source.SETTLEMENT
    assert found.journal[-1].at >= lost_at + QUIET
    assert market.money() == (paid, 0)
    assert v3(market, {"action": "status", "order": order.id}).json["status"] == "canceled"


@pytest.mark.parametrize("quiet", [60, 1800])
def test_each_provider_has_its_own_quiet_period(market: Market, quiet: int) -> None:
    shop = opened(market, quiet=quiet)
    order = shop.buy("smosale", 1234, lost="before")
    lost_at = market.time.at
    shop.wait(quiet // 60 + 4)
    found = shop.look(order)
    assert found.state is NOT_PLACED
    assert lost_at + quiet * SECOND <= found.journal[-1].at <= lost_at + quiet * SECOND + 4 * MINUTE


def test_other_purchases_and_refunds_between_are_accounted_for(market: Market) -> None:
    shop = opened(market)
    shop.buy("smosale", 700, link="https://example.com/partial")
    order = shop.buy("smosale", 1234, lost="before")
    shop.buy("smosale", 300, link="https://example.com/cancel")
    shop.buy("smosale", 900)
    shop.wait(14)
    assert shop.look(order).state is NOT_PLACED, shop.look(order).evidence


def to_another_account(market: Market, balance: Decimal) -> None:
    """Rotate the operator's key at smosale to that of another account."""
    account, version, vault = Account("smosale"), "7" * 32, market.parts.vault
    rotations, key = Rotations(market.parts.table), "canary-key-of-another-account"
    market.panel("smosale").customers["another"] = Customer([key], balance)
    before = vault.key(account).version
    rotation = rotations.begin(Rotation(account=account, version=version, before=before, other_account=True))
    vault.store_pending(account, key, token=version)
    rotation = rotations.advance(rotation, Step.PROVED)
    vault.promote(account, version)
    rotations.advance(rotations.advance(rotation, Step.PROMOTED), Step.DONE)
    market.time.at += MINUTE  # by then every container has the new key


def test_the_balance_of_another_account_proves_nothing(market: Market) -> None:
    """It stands where the old one stood before the lost order was bought."""
    shop = opened(market)
    mark = next(market.parts.following.accounts.marks(Account("smosale")))
    looked_at = shop.buy("smosale", 1234, lost="after")
    market.panel("smosale").faults.append(ActiveFault("html", action="status"))
    shop.wait()
    market.panel("smosale").faults.clear()
    assert shop.look(looked_at).search is not None
    bought = shop.buy("smosale", 777, lost="after")
    to_another_account(market, mark.balance)
    shop.wait(20)
    assert [shop.look(one).state for one in (looked_at, bought)] == [UNKNOWN, UNKNOWN]
    assert {one.id for one in needing_decision(market.parts)} == {looked_at.id, bought.id}


def test_an_account_that_was_changed_to_proves_by_its_own_balance(market: Market) -> None:
    shop = opened(market)
    to_another_account(market, Decimal(500))
    shop.wait(11)
    bought, lost = shop.buy("smosale", 1234, lost="after"), shop.buy("smosale", 777, lost="before")
    shop.wait(14)
    assert [shop.look(one).state for one in (bought, lost)] == [PLACED, NOT_PLACED]


def test_a_price_that_was_paid_is_never_taken_for_none(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="after")
    shop.buy("smosale", 300, link="https://example.com/cancel")
    [sold] = [one for one in market.bought("smosale") if one.quantity == 1234]
    del market.panel("smosale").orders[sold.id]
    market.panel("smosale")._live.discard(sold.id)  # noqa: SLF001 - the panel hides the order and keeps the money
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN


def test_an_unknown_top_up_proves_nothing(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="before")
    panel = market.panel("smosale")
    panel.set_funds(panel.balance + 5)
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN
    assert [one.id for one in needing_decision(market.parts)] == [order.id]


def test_a_purchase_at_another_price_is_not_given_up(market: Market) -> None:
    shop = opened(market)
    panel = market.panel("smosale")
    number = shop.service("smosale") // 1000
    panel.services[number] = replace(panel.services[number], rate=panel.services[number].rate * 2)
    order = shop.buy("smosale", 1234, lost="after")
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN


def test_two_lost_orders_one_bought_and_one_not_end_rightly(market: Market) -> None:
    shop = opened(market)
    bought, lost = shop.buy("smosale", 1234, lost="after"), shop.buy("smosale", 2345, lost="before")
    shop.wait(15)
    assert shop.look(bought).state is PLACED
    assert shop.look(lost).state is NOT_PLACED


def test_one_of_two_equal_ones_was_bought_and_neither_is_given_up(market: Market) -> None:
    shop = opened(market)
    lost = [shop.buy("smosale", 1234, lost="after"), shop.buy("smosale", 1234, lost="before")]
    shop.wait(15)
    assert [shop.look(one).state for one in lost] == [UNKNOWN, UNKNOWN]


def test_an_order_that_the_panel_deleted_does_not_keep_the_account_from_being_marked(market: Market) -> None:
    shop = opened(market)
    gone = shop.buy("smosale", 700, link="https://example.com/slowstart")
    shop.wait()
    panel = market.panel("smosale")
    del panel.orders[gone.provider_order or 0]
    panel._live.discard(gone.provider_order or 0)  # noqa: SLF001 - deleted
    order = shop.buy("smosale", 1234, lost="before")
    shop.wait(15)
    assert shop.look(order).state is NOT_PLACED


def test_in_the_first_minutes_of_a_stage_nothing_is_proved(market: Market) -> None:
    shop = Shop.of(market, "smosale")
    order = shop.buy("smosale", 1234, lost="after")
    shop.wait(15)
    assert shop.look(order).state is UNKNOWN
    assert [one.id for one in needing_decision(market.parts)] == [order.id]


# -- late deliveries ---------------------------------------------------------------------------------------------------


def given_up(shop: Shop) -> Order:
    order = shop.buy("smosale", 1234, lost="before")
    shop.wait(14)
    found = shop.look(order)
    assert found.state is NOT_PLACED
    return found


def test_a_purchase_that_its_sender_reports_too_late_is_put_before_the_operator(market: Market) -> None:
    shop = opened(market)
    order = given_up(shop)
    assert not market.parts.orders.place(order, Placed(777), until=2**62)
    late = shop.look(order)
    assert (late.state, late.late_order) == (NOT_PLACED, 777)
    assert [one.id for one in needing_decision(market.parts)] == [order.id]
    shop.wait(2)
    assert shop.look(order).state is NOT_PLACED


def test_a_sender_with_another_number_is_not_told_that_it_was_recorded(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="after")
    shop.wait(2)
    bound = shop.look(order)
    assert bound.state is PLACED
    assert market.parts.orders.place(order, Placed(bound.provider_order or 0), until=2**62)
    assert not market.parts.orders.place(order, Placed(777), until=2**62)
    assert shop.look(order).provider_order == bound.provider_order


def test_a_subscription_that_was_given_up_does_not_hold_its_money_a_second_time(market: Market) -> None:
    shop = Shop.of(market)
    fields: dict[str, Any] = {"username": "someone", "min": 100, "max": 100, "posts": 1, "delay": 0}
    service = market.service("smosale", "Subscriptions")
    order = shop.buy("smosale", lost="after", service=service, link=None, quantity=None, **fields)
    orders = market.parts.orders
    assert orders.give_up(order, "decided", until=2**62, source=Source.OPERATOR)
    assert not orders.restore(shop.look(order), max(market.panel("smosale").orders), until=2**62)
    assert market.money() == (CREDIT, 0)


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.panels("smosale", "mysticsmm")
@pytest.mark.parametrize(("slug", "most"), [("smosale", 30), ("mysticsmm", 45)])
def test_a_run_makes_few_calls_however_far_the_numbers_reach(market: Market, slug: str, most: int) -> None:
    shop = opened(market, slug)
    shop.foreign(slug, 500, count=35)
    panel = market.panel(slug)
    panel.next_order += 3_000
    order = shop.buy(slug, 1234, lost="before")
    shop.buy(slug)
    for _ in range(3):
        before, was = shop.calls(slug), shop.look(order).search
        shop.wait()
        assert shop.calls(slug) - before <= most
        now = shop.look(order).search
        assert now is not None
        assert now.next is not None
        assert was is None or was.next is None or now.next >= was.next, "it goes on where it stopped"


def test_a_far_order_is_found_after_several_runs(market: Market) -> None:
    shop = opened(market)
    market.panel("smosale").next_order += 5_000
    order = shop.buy("smosale", 1234, lost="after")
    shop.buy("smosale")
    shop.wait()
    assert shop.look(order).state is UNKNOWN
    shop.wait(5)
    assert shop.look(order).state is PLACED


@pytest.mark.panels("mysticsmm")
def test_many_lost_orders_all_get_their_turn(market: Market) -> None:
    """The first has far to go; the others need not wait until it is there."""
    shop = opened(market, "mysticsmm")
    market.panel("mysticsmm").next_order += 4_000
    far = shop.buy("mysticsmm", 1234, lost="before")
    shop.buy("mysticsmm")
    shop.wait(3)
    near = shop.buy("mysticsmm", 4321, lost="after")
    shop.wait(6)
    assert shop.look(far).state is UNKNOWN
    assert shop.look(near).state is PLACED


@pytest.mark.panels("mysticsmm")
def test_a_purchase_is_not_delayed_by_the_schedule(market: Market) -> None:
    shop = opened(market, "mysticsmm")
    market.panel("mysticsmm").next_order += 400
    shop.buy("mysticsmm", 1234, lost="before")
    shop.buy("mysticsmm")
    waited: list[int] = []

    class Meanwhile:
        def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
            if b"status" in request.body and len(waited) < 3:
                start = market.time.at
                waited.append(0)
                shop.buy("mysticsmm")
                waited[-1] = market.time.at - start - SECOND
            return market.network.send(url, request, deadline=deadline, send_by=send_by)

    looking = market.twin(sender=Meanwhile())
    market.time.at += MINUTE
    settle_orders(looking)
    assert len(waited) == 3
    assert max(waited) <= 3 * SECOND


def test_two_settlers_at_once_do_each_thing_once(market: Market) -> None:
    shop = opened(market)
    bought, lost = shop.buy("smosale", 1234, lost="after"), shop.buy("smosale", 2345, lost="before")
    paid = market.money()
    for _ in range(15):
        market.time.at += MINUTE
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(settle_orders, [shop.parts, shop.parts]))
    assert shop.look(bought).state is PLACED
    assert shop.look(lost).state is NOT_PLACED
    assert market.money() == (paid[0] + lost.charge, 0)
    assert sum(change.now is PLACED for change in shop.look(bought).journal) == 1


# -- providers that cannot be asked ------------------------------------------------------------------------------------


def test_a_provider_that_is_disabled_settles_when_it_is_enabled_again(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="after")
    market.registry.set_enabled("smosale", enabled=False)
    shop.wait(14)
    assert shop.look(order).state is UNKNOWN
    assert [one.id for one in needing_decision(market.parts)] == [order.id]
    market.registry.set_enabled("smosale", enabled=True)
    shop.wait(3)
    assert shop.look(order).state is PLACED


def test_orders_of_a_removed_provider_stay_in_the_operators_queue(market: Market) -> None:
    shop = opened(market)
    order = shop.buy("smosale", 1234, lost="before")
    market.registry.remove_provider("smosale")
    shop.wait(14)
    assert [one.id for one in needing_decision(market.parts)] == [order.id]


@pytest.mark.panels("smosale", "smmrich")
def test_a_provider_that_cannot_be_reached_keeps_nobody_else_waiting(market: Market) -> None:
    shop = Shop.of(market, "smosale", "smmrich")
    for slug in ("smosale", "smmrich"):
        shop.buy(slug)
    shop.wait()
    lost = [shop.buy(slug, 1234, lost="after") for slug in ("smosale", "smmrich")]
    market.network.unreachable.add("smosale")
    shop.wait(12)
    assert [shop.look(one).state for one in lost] == [UNKNOWN, PLACED]
    market.network.unreachable.clear()
    shop.wait(2)
    assert shop.look(lost[0]).state is PLACED


def test_an_order_that_cannot_be_looked_at_does_not_hide_the_others(market: Market) -> None:
    shop = opened(market)
    broken, good = shop.buy("smosale", 1234, lost="after"), shop.buy("smosale", 2345, lost="after")
    parts = market.parts

    class Broken:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def call(order: Order, *arguments: Any, **options: Any) -> Any:
                if name in ("place", "look") and order.id == broken.id:
                    raise ValueError("a record that nobody can read")
                return getattr(parts.orders, name)(order, *arguments, **options)

            return call if name in ("place", "look") else getattr(parts.orders, name)

    settlement: Any = replace(parts.settlement, orders=Broken())
    market.time.at += MINUTE
    with pytest.raises(ExceptionGroup):
        settlement.run(market.registry.provider("smosale"), end=market.time.at + 50 * SECOND)
    assert shop.look(good).state is PLACED


@pytest.mark.panels("smosale", "smmrich")
def test_a_fault_in_following_keeps_nobody_from_being_settled(market: Market) -> None:
    shop = Shop.of(market, "smosale", "smmrich")
    for slug in ("smosale", "smmrich"):
        shop.buy(slug)
    shop.wait()
    lost = [shop.buy(slug, 1234, lost="after") for slug in ("smosale", "smmrich")]

    class Faulty:
        def run(self, *_arguments: Any, **_options: Any) -> int:
            raise ValueError("a defect")

    parts = replace(market.parts, following=Faulty())  # type: ignore[arg-type]
    market.time.at += MINUTE
    with pytest.raises(ExceptionGroup) as raised:
        settle_orders(parts)
    assert len(raised.value.exceptions) == 2
    assert [shop.look(one).state for one in lost] == [PLACED, PLACED]
