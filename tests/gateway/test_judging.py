"""The judge sees each kind of wrong: one record, or one word, is spoilt in a stall where all was well."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from chalicelib.model import Order
from tests.scenarios import NAME
from tests.stall import CREDIT, Stall


def a_binding_is_gone(stall: Stall, _order: Order) -> None:
    [binding] = stall.parts.table.query("P#smosale", "BOUND#")
    stall.parts.table.delete_many([(binding["pk"], binding["sk"])])


def the_day_counts_more(stall: Stall, _order: Order) -> None:
    [day] = stall.parts.table.query("T#acme", "SPEND#")
    stall.parts.table.put_many([{**day, "spent": day["spent"] + 1}])


def another_order_was_told_of(stall: Stall, order: Order) -> None:
    stall.told[NAME] = f"order {order.id + 1}"


def a_refusal_was_told(stall: Stall, _order: Order) -> None:
    stall.told[NAME] = "service_unavailable"


def the_panel_sold_it_twice(stall: Stall, _order: Order) -> None:
    [sold] = stall.sold()[NAME]
    stall.panel.orders[sold.id + 1] = replace(sold, id=sold.id + 1)


def the_panel_sold_what_nobody_knows(stall: Stall, _order: Order) -> None:
    [sold] = stall.sold()[NAME]
    stall.panel.orders[sold.id + 1] = replace(sold, id=sold.id + 1, link=f"{sold.link}-unknown")


def the_panel_paid_back(stall: Stall, _order: Order) -> None:
    [sold] = stall.sold()[NAME]
    sold.refunded = sold.charge


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        (a_binding_is_gone, {"wrong"}),
        (the_day_counts_more, {"wrong"}),
        (another_order_was_told_of, {"wrong"}),
        (a_refusal_was_told, {"wrong"}),
        (the_panel_sold_it_twice, {"doubled", "difference"}),
        (the_panel_sold_what_nobody_knows, {"lost"}),
        (the_panel_paid_back, {"difference"}),
    ],
)
def test_the_judge_sees_what_is_wrong(stall: Stall, spoil: Callable[[Stall, Order], None], broken: set[str]) -> None:
    stall.market.registry.change_tenant("acme", partial(replace, daily_spend=CREDIT))
    stall.add(NAME)
    stall.settle_down()
    assert stall.judge().is_good, stall.judge()
    spoil(stall, stall.orders()[0])
    assert stall.judge().broken == broken, stall.judge()
