"""The audit: silent about what the gateway writes, whatever became of it, and about nothing else."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from chalicelib import money
from chalicelib.aws.audit import findings
from chalicelib.aws.table import Item, Table
from chalicelib.clock import MINUTE, SECOND, Clock
from chalicelib.model import Funding, Order, OrderState, Tenant
from chalicelib.panels.dialect import Reply
from chalicelib.ports import Accepted
from sandbox.faults import ActiveFault
from sandbox.orders import Stage
from tests.api.http import v2, v3
from tests.aws.test_orders import UNTIL, draft
from tests.conftest import empty_table
from tests.faults import Faulty
from tests.gateway.test_types import ORDERS
from tests.market import Market
from tests.world import LINK, PretendPanel, World, buys, loses_the_request

PANELS = ("smosale", "smmrich", "smmleaf", "mysticsmm", "smmafrica")
ENDS = ("partial", "cancel", "cancel-partial", "fail", "complete")
SUBSCRIPTION: dict[str, Any] = {"username": "star", "min": 20, "max": 30, "delay": 0}
DIRECT = Tenant(
    id="direct", interval=1, burst=1000, funding=Funding.PROVIDER, providers=frozenset({"smosale"}), dedupe=600
)


def records(table: Table, tenant: str | None = None) -> list[str]:
    return [f"{finding.pk} {finding.sk}" for finding in findings(table, tenant)]


def order(market: Market, slug: str = "smosale", *, key: str = "", **fields: Any) -> int:
    """Place an order, or have it accepted at least, and return its number."""
    market.time.at += SECOND  # mysticsmm's pace
    fields = {"link": LINK, "quantity": 1000, **fields} if "username" not in fields else fields
    service = market.service(slug, "Subscriptions" if "username" in fields else "Default")
    fields = {"action": "add", "service": service, **fields}
    answer = v3(market, fields, headers={"authorization": f"Bearer {key or market.key}"})
    assert answer.status in (200, 202), answer.text
    return int(answer.json["order"])


def look(market: Market, number: int, key: str = "") -> Any:
    market.time.at += 16 * SECOND
    return v2(market, {"action": "status", "order": number, "key": key or market.key}).json


def stored(market: Market, number: int, tenant: str = "acme") -> Order:
    found = market.parts.orders.get(tenant, number)
    assert found is not None
    return found


# -- what the gateway writes -------------------------------------------------------------------------------------------


def _of_every_type(market: Market) -> None:
    for n, (slug, kind, fields, _) in enumerate(ORDERS):
        market.time.at += SECOND
        asked = {"action": "add", "service": market.service(slug, kind), **fields}
        assert v3(market, asked, headers={"idempotency-key": f"type {n}"}).status == 200


def _of_every_end(market: Market) -> None:
    numbers = [order(market, slug, link=f"{LINK}/{end}") for slug in PANELS for end in ENDS]
    market.time.at += 90 * SECOND
    for number in numbers:
        look(market, number)


def _untold(market: Market) -> int:
    """Order what ends in part, and let its panel hide how much remains."""
    number = order(market, link=f"{LINK}/partial")
    market.panel("smosale").orders[stored(market, number).provider_order or 0].shown["remains"] = "Unknown"
    return number


def _of_every_decision(market: Market) -> None:
    numbers = [_untold(market) for _ in range(3)]
    market.time.at += 90 * SECOND
    for number, amount in zip(numbers, (0, 100_000, None), strict=True):
        look(market, number)
        if amount is not None:
            assert market.parts.orders.decide_refund(stored(market, number), amount, until=UNTIL)


def _of_every_state(market: Market) -> None:
    panel, orders = market.panel("smosale"), market.parts.orders
    panel.faults.append(ActiveFault(fault="502", action="add", count=1))
    assert stored(market, order(market, idempotency_key="unknown")).state is OrderState.UNKNOWN
    panel.settings.refuse_duplicate_links = True
    refused = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    order(market)
    assert v3(market, refused, headers={"idempotency-key": "refused"}).status == 409
    panel.settings.refuse_duplicate_links = False
    market.network.unreachable.add("smosale")
    assert v3(market, refused, headers={"idempotency-key": "freed"}).status == 503
    market.network.unreachable.clear()
    order(market, idempotency_key="freed")
    for state in (OrderState.SENDING, OrderState.NOT_PLACED):
        orders.accept(draft(), until=UNTIL)
        if state is OrderState.NOT_PLACED:
            [sent] = [one for one in orders.page("acme") if one.state is OrderState.SENDING][:1]
            orders.lose(sent, "?", until=UNTIL * 2)
            orders.reject(sent, None, until=UNTIL * 2)


def _of_subscriptions(market: Market) -> None:
    subscriptions = [order(market, **SUBSCRIPTION, posts=posts) for posts in (3, 50)]
    subscriptions.append(order(market, **SUBSCRIPTION))  # without end, beyond its hold
    market.time.at += 300 * SECOND
    children = [child for number in subscriptions for child in look(market, number)["orders"]]
    market.move("smosale", children[0], Stage.REFUNDED)
    look(market, children[0])
    market.panel("smosale").faults.append(ActiveFault(fault="502", action="add", count=1))
    order(market, **SUBSCRIPTION)


def _of_the_providers_money(market: Market) -> None:
    key = market.add_tenant(DIRECT, credit=0)
    canceled = order(market, key=key, link=f"{LINK}/cancel")
    subscription = order(market, key=key, **SUBSCRIPTION, posts=2)
    for _ in range(2):  # one order while the window lasts, and the next one takes its claim
        order(market, key=key)
        order(market, key=key)
        market.time.at += 700 * SECOND
    for number in (canceled, subscription):
        look(market, number, key)


def test_nothing_is_wrong_with_what_the_gateway_writes(market: Market) -> None:
    acts = (_of_every_type, _of_every_end, _of_every_decision, _of_every_state, _of_subscriptions)
    for act in (*acts, _of_the_providers_money):
        act(market)
        assert list(findings(market.parts.table)) == [], act.__name__
    ours = list(market.parts.orders.page("acme"))
    assert {one.state for one in ours} == set(OrderState)
    assert {one.type for one in ours} == {kind for _, kind, _, _ in ORDERS}
    kinds = Counter(entry["kind"] for entry in market.parts.wallet.ledger("acme"))
    assert set(kinds) == {"credit", "hold", "capture", "release", "refund"}
    assert kinds["refund"] > 10
    settled = [one for one in ours if one.spent is not None]
    assert settled
    assert [one for one in ours if one.parent is not None and one.refunded]
    assert {one.state for one in ours if one.held} >= {OrderState.PLACED, OrderState.UNKNOWN}
    held = sum(one.held or 0 if one.state is OrderState.PLACED else one.wallet_charge for one in ours if _is_open(one))
    assert market.money()[1] == held > 0


def _is_open(one: Order) -> bool:
    return one.state in (OrderState.SENDING, OrderState.UNKNOWN, OrderState.PLACED)


def test_a_stage_without_tenants_is_right(world: World) -> None:
    world.parts.table.delete_many([("TENANTS", "acme")])
    assert list(findings(world.parts.table)) == []


def test_more_orders_than_are_read_at_once(world: World) -> None:
    orders = [world.parts.orders.accept(draft(id=1_000_000 + 7 * n, charge=1000), until=UNTIL) for n in range(230)]
    assert len(orders) == 230
    assert records(world.parts.table) == []
    victim = "LEDGER#HOLD#1001400"
    world.parts.table.delete_many([("T#acme", victim)])
    assert records(world.parts.table) == [f"T#acme {victim}", "T#acme WALLET"]


# -- what somebody else writes -----------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A stage with one order of each kind, whose records a test spoils."""

    market: Market
    placed: int
    other: int
    refunded: int
    unknown: int
    lost: int
    live: int
    child: int
    ended: int
    direct: int
    undecided: int

    @property
    def table(self) -> Table:
        return self.market.parts.table

    def item(self, sk: str, pk: str = "T#acme") -> Item:
        found = self.table.get(pk, sk)
        assert found is not None, sk
        return found

    def set(self, sk: str, pk: str = "T#acme", **changes: Any) -> str:
        """Change attributes of a record (None removes one), and return its name."""
        item = self.table.get(pk, sk) or {"pk": pk, "sk": sk}
        self.table.put_many([{**item, **changes}])
        return f"{pk} {sk}"

    def drop(self, sk: str, pk: str = "T#acme") -> str:
        self.item(sk, pk)
        self.table.delete_many([(pk, sk)])
        return f"{pk} {sk}"

    def pay(self, available: int = 0, held: int = 0, tenant: str = "acme") -> None:
        """Move the wallet along, so that it agrees with a ledger that was spoiled."""
        wallet = self.table.get(f"T#{tenant}", "WALLET") or {}
        sums = {"available": wallet.get("available", 0) + available, "held": wallet.get("held", 0) + held}
        self.set("WALLET", f"T#{tenant}", **sums)

    def entry(self, sk: str, tenant: str = "acme", available: int = 0, held: int = 0) -> str:
        """Write a ledger entry into the wallet's sums."""
        _, kind, of = sk.split("#", 2)
        self.pay(available, held, tenant)
        values = {"kind": kind.lower(), "id": of.split("#")[0], "available": available, "held": held, "at": 1}
        return self.set(sk, f"T#{tenant}", **values)

    def bound(self, number: int) -> str:
        """Return the sort key of the record that binds an order's order at its provider."""
        [sk] = [item["sk"] for item in self.table.query("P#smosale", "BOUND#") if item["order"] == number]
        return str(sk)

    def refund(self) -> tuple[str, int]:
        """Return the sort key and the figure of the one refund, in micro-USD."""
        [entry] = list(self.table.query("T#acme", f"LEDGER#REFUND#{self.refunded}#"))
        return entry["sk"], entry["available"]

    def note(self) -> str:
        """Return the sort key of the one record that asks for a decision."""
        [note] = list(self.table.query("P#smosale", "REFUND#"))
        return str(note["sk"])

    def claim(self) -> str:
        return f"CLAIM#{stored(self.market, self.placed).claim}"

    def records(self) -> dict[tuple[str, str], Item]:
        """Return the records that a test may spoil."""
        partitions = (
            ("T#acme", ""),
            ("T#direct", ""),
            ("PROVIDERS", ""),
            *((f"P#{slug}", prefix) for slug in PANELS for prefix in ("BOUND#", "REFUND#")),
        )
        return {(item["pk"], item["sk"]): item for pk, sk in partitions for item in self.table.query(pk, sk)}

    def restore(self, before: dict[tuple[str, str], Item]) -> None:
        after = self.records()
        self.table.delete_many([key for key in after if key not in before])
        self.table.put_many([item for key, item in before.items() if after.get(key) != item])


@pytest.fixture(scope="module")
def built(worker_id: str, dynamodb: Any, secrets_manager: Any) -> Iterator[Scene]:
    """Return a scene that all tests here spoil in turn: it takes a second to build."""
    stage = f"t{os.getpid()}-{worker_id}-audit"
    with empty_table(stage, dynamodb):
        yield build(Market.new(stage, dynamodb, secrets_manager))


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    before = built.records()
    yield built
    built.restore(before)
    assert records(built.table) == []


def build(market: Market) -> Scene:
    key = market.add_tenant(replace(DIRECT, dedupe=0), credit=0)
    refunded, undecided = order(market, link=f"{LINK}/partial"), _untold(market)
    ended = order(market, **SUBSCRIPTION, posts=1)
    market.time.at += 90 * SECOND
    for number in (refunded, undecided, ended):
        look(market, number)
    live = order(market, **SUBSCRIPTION, posts=3)
    market.time.at += 40 * SECOND
    [child] = look(market, live)["orders"][:1]
    market.panel("smosale").faults.append(ActiveFault(fault="502", action="add", count=1))
    unknown = order(market)
    lost = market.parts.orders.accept(draft(), until=UNTIL * 2)
    market.parts.orders.reject(lost.order, {"code": "x", "message": "y"}, until=UNTIL * 2)  # type: ignore[union-attr]
    placed, other = order(market, idempotency_key="k"), order(market)
    direct = order(market, key=key)
    made = Scene(market, placed, other, refunded, unknown, 1_000_001, live, child, ended, direct, undecided)
    assert records(made.table) == []
    assert stored(market, live).spent is None
    assert stored(market, ended).spent == 0
    return made


Spoil = Callable[[Scene], set[str]]
SPOILS: dict[str, Spoil] = {}


def spoil(act: Spoil) -> Spoil:
    SPOILS[act.__name__] = act
    return act


@spoil
def a_micro_more_in_the_wallet(scene: Scene) -> set[str]:
    return {scene.set("WALLET", available=scene.item("WALLET")["available"] + 1)}


@spoil
def a_micro_less_held(scene: Scene) -> set[str]:
    return {scene.set("WALLET", held=scene.item("WALLET")["held"] - 1)}


@spoil
def no_wallet(scene: Scene) -> set[str]:
    return {scene.drop("WALLET")}


@spoil
def a_wallet_below_zero(scene: Scene) -> set[str]:
    credit = scene.item("LEDGER#CREDIT#start")["available"]
    scene.set("LEDGER#CREDIT#start", available=1)
    scene.pay(1 - credit)
    return {"T#acme WALLET"}


@spoil
def no_credit(scene: Scene) -> set[str]:
    scene.drop("LEDGER#CREDIT#start")
    return {"T#acme WALLET"}


@spoil
def a_credit_that_takes(scene: Scene) -> set[str]:
    return {scene.entry("LEDGER#CREDIT#refund", available=-1)}


@spoil
def a_credit_that_holds(scene: Scene) -> set[str]:
    return {scene.entry("LEDGER#CREDIT#held", available=1, held=1)}


@spoil
def an_entry_of_no_kind(scene: Scene) -> set[str]:
    return {scene.entry("LEDGER#BONUS#5", available=1)}


@spoil
def an_entry_under_anothers_key(scene: Scene) -> set[str]:
    return {scene.set(f"LEDGER#HOLD#{scene.placed}", id=str(scene.other))}


@spoil
def no_hold(scene: Scene) -> set[str]:
    return {scene.drop(f"LEDGER#HOLD#{scene.placed}"), "T#acme WALLET"}


@spoil
def no_hold_nor_its_money(scene: Scene) -> set[str]:
    charge = stored(scene.market, scene.unknown).charge
    scene.pay(charge, -charge)
    return {scene.drop(f"LEDGER#HOLD#{scene.unknown}")}


@spoil
def no_capture(scene: Scene) -> set[str]:
    return {scene.drop(f"LEDGER#CAPTURE#{scene.placed}"), "T#acme WALLET"}


@spoil
def no_release(scene: Scene) -> set[str]:
    return {scene.drop(f"LEDGER#RELEASE#{scene.lost}"), "T#acme WALLET"}


@spoil
def no_refund(scene: Scene) -> set[str]:
    scene.drop(scene.refund()[0])
    return {f"T#acme ORDER#{scene.refunded}", "T#acme WALLET"}


@spoil
def a_hold_of_a_micro_more(scene: Scene) -> set[str]:
    entry = scene.item(f"LEDGER#HOLD#{scene.placed}")
    scene.pay(-1)
    return {scene.set(entry["sk"], available=entry["available"] - 1)}


@spoil
def a_release_of_what_is_not_known(scene: Scene) -> set[str]:
    charge = stored(scene.market, scene.unknown).charge
    return {scene.entry(f"LEDGER#RELEASE#{scene.unknown}", available=charge, held=-charge)}


@spoil
def a_release_of_what_was_bought(scene: Scene) -> set[str]:
    charge = stored(scene.market, scene.placed).charge
    return {scene.entry(f"LEDGER#RELEASE#{scene.placed}", available=charge)}


@spoil
def a_refund_twice(scene: Scene) -> set[str]:
    _, due = scene.refund()
    scene.entry(f"LEDGER#REFUND#{scene.refunded}#{2 * due}", available=due)
    return {f"T#acme ORDER#{scene.refunded}"}


@spoil
def a_refund_of_twice_as_much(scene: Scene) -> set[str]:
    sk, due = scene.refund()
    scene.pay(due)
    return {scene.set(sk, available=2 * due)}


@spoil
def a_refund_without_its_sum(scene: Scene) -> set[str]:
    return {scene.entry(f"LEDGER#REFUND#{scene.refunded}", available=1)}


@spoil
def a_refund_out_of_the_hold(scene: Scene) -> set[str]:
    scene.pay(held=-1)
    return {scene.set(scene.refund()[0], held=-1)}


@spoil
def a_refund_of_what_was_not_bought(scene: Scene) -> set[str]:
    scene.entry(f"LEDGER#REFUND#{scene.lost}#5", available=5)
    return {scene.set(f"ORDER#{scene.lost}", refunded=5)}


@spoil
def an_order_says_more_went_back(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.refunded}", refunded=scene.refund()[1] + 1)}


@spoil
def an_order_says_less_went_back(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.refunded}", refunded=scene.refund()[1] - 1)}


@spoil
def more_went_back_than_was_paid(scene: Scene) -> set[str]:
    _, due = scene.refund()
    more = stored(scene.market, scene.refunded).charge + 1
    scene.entry(f"LEDGER#REFUND#{scene.refunded}#{more}", available=more - due)
    return {scene.set(f"ORDER#{scene.refunded}", refunded=more)}


@spoil
def another_charge(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.placed}", charge=1)}


@spoil
def a_placed_order_is_called_rejected(scene: Scene) -> set[str]:
    bound = f"P#smosale {scene.bound(scene.placed)}"
    return {scene.set(f"ORDER#{scene.placed}", state="rejected"), bound}


@spoil
def an_unknown_order_is_called_placed(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.unknown}", state="placed"), f"T#acme LEDGER#CAPTURE#{scene.unknown}"}


@spoil
def an_unknown_order_is_called_not_placed(scene: Scene) -> set[str]:
    scene.set(f"ORDER#{scene.unknown}", state="not_placed")
    return {f"T#acme LEDGER#RELEASE#{scene.unknown}"}


@spoil
def no_order(scene: Scene) -> set[str]:
    bound, claim = scene.bound(scene.placed), scene.claim()
    return {scene.drop(f"ORDER#{scene.placed}"), f"P#smosale {bound}", f"T#acme {claim}"}


@spoil
def an_entry_without_an_order(scene: Scene) -> set[str]:
    return {scene.entry("LEDGER#REFUND#1000005#1", available=1)}


@spoil
def an_order_that_cannot_be_read(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.unknown}", charge=None)}


@spoil
def an_order_of_another_tenant(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.unknown}", owner="direct")}


@spoil
def no_binding(scene: Scene) -> set[str]:
    return {scene.drop(scene.bound(scene.placed), "P#smosale")}


@spoil
def no_binding_of_the_providers_money(scene: Scene) -> set[str]:
    return {scene.drop(scene.bound(scene.direct), "P#smosale")}


@spoil
def a_binding_to_another_order(scene: Scene) -> set[str]:
    return {scene.set(scene.bound(scene.placed), "P#smosale", order=scene.other)}


@spoil
def a_binding_to_another_tenant(scene: Scene) -> set[str]:
    return {scene.set(scene.bound(scene.placed), "P#smosale", tenant="direct")}


@spoil
def a_second_binding(scene: Scene) -> set[str]:
    return {scene.set("BOUND#99", "P#smosale", tenant="acme", order=scene.placed)}


@spoil
def a_binding_at_another_panel(scene: Scene) -> set[str]:
    return {scene.set(scene.bound(scene.placed), "P#smmrich", tenant="acme", order=scene.placed)}


@spoil
def a_binding_of_what_was_not_bought(scene: Scene) -> set[str]:
    return {scene.set("BOUND#99", "P#smosale", tenant="acme", order=scene.lost)}


@spoil
def a_binding_of_nothing(scene: Scene) -> set[str]:
    return {scene.set("BOUND#99", "P#smosale", tenant="nobody", order=1_000_005)}


@spoil
def two_orders_of_one_at_the_provider(scene: Scene) -> set[str]:
    bound, shared = scene.bound(scene.other), stored(scene.market, scene.placed).provider_order
    return {scene.set(f"ORDER#{scene.other}", provider_order=shared), f"P#smosale {bound}"}


@spoil
def a_claim_of_nothing(scene: Scene) -> set[str]:
    return {scene.set("CLAIM#KEY#none", order=1_000_005)}


@spoil
def a_claim_of_an_order_without_one(scene: Scene) -> set[str]:
    return {scene.set("CLAIM#KEY#none", order=scene.other)}


@spoil
def a_claim_of_another_order(scene: Scene) -> set[str]:
    return {scene.set(scene.claim(), order=scene.other)}


@spoil
def two_orders_of_one_idempotency_key(scene: Scene) -> set[str]:
    first = stored(scene.market, scene.placed)
    scene.set(f"ORDER#{scene.other}", claim=first.claim, idempotency_key=first.idempotency_key)
    return {f"T#acme {scene.claim()}"}


@spoil
def no_claim(scene: Scene) -> set[str]:
    return {scene.drop(scene.claim())}


@spoil
def nobody_is_asked(scene: Scene) -> set[str]:
    return {scene.drop(scene.note(), "P#smosale")}


@spoil
def somebody_is_asked_about_another_order(scene: Scene) -> set[str]:
    return {scene.set(scene.note(), "P#smosale", order=scene.placed)}


@spoil
def somebody_is_asked_about_nothing(scene: Scene) -> set[str]:
    return {scene.set("REFUND#1#acme#1000005", "P#smosale", tenant="acme", order=1_000_005)}


@spoil
def somebody_is_asked_what_was_decided(scene: Scene) -> set[str]:
    scene.set(f"ORDER#{scene.undecided}", refund_open=None, refund_decided=0)
    return {f"P#smosale {scene.note()}"}


@spoil
def somebody_is_asked_what_is_told(scene: Scene) -> set[str]:
    reading = scene.item(f"ORDER#{scene.undecided}")["reading"]
    return {scene.set(f"ORDER#{scene.undecided}", reading={**reading, "status": "completed"})}


@spoil
def more_was_decided_than_went_back(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.refunded}", refund_decided=scene.refund()[1] + 1)}


@spoil
def a_subscription_holds_more(scene: Scene) -> set[str]:
    held = stored(scene.market, scene.live).held or 0
    return {scene.set(f"ORDER#{scene.live}", held=held + 1)}


@spoil
def a_subscription_that_ended_holds_something(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.ended}", held=1)}


@spoil
def a_subscription_that_spent_less_than_nothing(scene: Scene) -> set[str]:
    sk = f"LEDGER#RELEASE#{scene.ended}"
    release = scene.item(sk)
    scene.pay(1)
    scene.set(sk, available=release["available"] + 1)
    return {scene.set(f"ORDER#{scene.ended}", spent=-1)}


@spoil
def a_subscription_was_settled_otherwise(scene: Scene) -> set[str]:
    sk = f"LEDGER#RELEASE#{scene.ended}"
    scene.pay(1)
    return {scene.set(sk, available=scene.item(sk)["available"] + 1)}


@spoil
def a_subscription_without_its_order(scene: Scene) -> set[str]:
    children = scene.item(f"ORDER#{scene.live}")["children"]
    kept = {number: ours for number, ours in children.items() if ours != scene.child}
    return {scene.set(f"ORDER#{scene.live}", children=kept), f"T#acme ORDER#{scene.child}"}


@spoil
def a_subscriptions_order_without_its_subscription(scene: Scene) -> set[str]:
    child = scene.set(f"ORDER#{scene.child}", parent=None)
    return {child, f"T#acme LEDGER#HOLD#{scene.child}"}


@spoil
def a_subscriptions_order_is_gone(scene: Scene) -> set[str]:
    bound = scene.bound(scene.child)
    child = scene.drop(f"ORDER#{scene.child}")
    return {child, f"T#acme LEDGER#CAPTURE#{scene.child}", f"P#smosale {bound}"}


@spoil
def a_subscriptions_order_was_paid_otherwise(scene: Scene) -> set[str]:
    sk = f"LEDGER#CAPTURE#{scene.child}"
    scene.pay(held=-1)
    return {scene.set(sk, held=scene.item(sk)["held"] - 1)}


@spoil
def a_subscriptions_order_out_of_the_wallet_though_there_is_a_hold(scene: Scene) -> set[str]:
    sk = f"LEDGER#CAPTURE#{scene.child}"
    held = scene.item(sk)["held"]
    scene.pay(held, -held)
    scene.set(sk, available=held, held=0)
    return {f"T#acme ORDER#{scene.live}"}


@spoil
def money_of_ours_for_an_order_of_the_providers(scene: Scene) -> set[str]:
    scene.entry("LEDGER#CREDIT#gift", "direct", available=5)
    return {scene.entry(f"LEDGER#HOLD#{scene.direct}", "direct", available=-5, held=5)}


@spoil
def more_of_the_providers_money_went_back_than_was_paid(scene: Scene) -> set[str]:
    return {scene.set(f"ORDER#{scene.direct}", "T#direct", refunded=10**9)}


@pytest.mark.parametrize("name", SPOILS)
def test_what_is_wrong_is_named_and_nothing_else(scene: Scene, name: str) -> None:
    wrong = SPOILS[name](scene)
    found = list(findings(scene.table))
    assert {f"{finding.pk} {finding.sk}" for finding in found} == wrong, [str(finding) for finding in found]
    assert len(found) == len(wrong)
    assert not [finding for finding in found if finding.in_motion]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a_micro_more_in_the_wallet", "WALLET: its ledger adds up to {} USD available and"),
        ("no_hold", "which is placed, calls for -0.25 USD available and 0.25 USD held; found no entry"),
        ("another_charge", "the order is placed, which calls for LEDGER#CAPTURE#"),
        ("an_entry_without_an_order", "order 1000005 does not exist; found LEDGER#REFUND#1000005#1 with 0.000001 USD"),
        (
            "more_of_the_providers_money_went_back_than_was_paid",
            "1000 USD went back by the order; at most 0.25 USD can",
        ),
    ],
)
def test_the_sentence_has_the_figures(scene: Scene, name: str, sentence: str) -> None:
    sentence = sentence.format(money.text(scene.item("WALLET")["available"]))
    SPOILS[name](scene)
    assert sentence in str(next(findings(scene.table)))


def test_only_the_tenant_who_is_asked_for(scene: Scene) -> None:
    foreign = scene.drop(scene.bound(scene.direct), "P#smosale")
    ours = scene.set("BOUND#99", "P#smosale", tenant="acme", order=scene.lost)
    assert records(scene.table, "acme") == [ours]
    assert records(scene.table, "direct") == [foreign]


def test_the_bindings_of_a_provider_that_was_removed(scene: Scene) -> None:
    wrong = scene.set("BOUND#99", "P#smosale", tenant="acme", order=scene.lost)
    scene.market.registry.remove_provider("smosale")
    assert records(scene.table) == [wrong]


# -- a table that is in use --------------------------------------------------------------------------------------------


def in_use(table: Table, act: Callable[[], Any], times: int) -> Table:
    """Return the table as it is for a reader before each of whose reads something happens, as long as it may."""
    left = iter(range(times))

    def meanwhile(_name: str, _request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if next(left, None) is not None:
            act()
        return call()

    return replace(table, client=cast("Any", Faulty(table.client, meanwhile)))


def ordering(world: World) -> Callable[[], Any]:
    """Return an act that orders, within the tenant's limit."""
    numbers = itertools.count()

    def act() -> None:
        world.time.at += SECOND
        world.add(idempotency_key=f"k{next(numbers)}")

    return act


@pytest.mark.parametrize("times", [1, 2, 3, 5, 8, 13, 21])
def test_orders_that_are_placed_between_two_reads_are_no_finding(world: World, times: int) -> None:
    world.add(idempotency_key="first")
    table = in_use(world.parts.table, ordering(world), times)
    assert list(findings(table)) == []


def test_orders_that_move_between_two_reads_are_no_finding(market: Market) -> None:
    """Every order ends, is refunded or makes children while it is read."""
    numbers = [order(market, link=f"{LINK}/{end}") for end in ENDS]
    numbers += [order(market, **SUBSCRIPTION, posts=posts) for posts in (1, 3)]
    market.time.at += MINUTE
    turns = iter(numbers * 10)
    table = in_use(market.parts.table, lambda: look(market, next(turns)), 14)
    assert list(findings(table)) == []


def test_a_wallet_that_never_rests_is_told_of_as_such(world: World) -> None:
    table = in_use(world.parts.table, ordering(world), 100)
    assert [(one.pk, one.sk, one.in_motion) for one in findings(table)] == [("T#acme", "WALLET", True)]


def test_a_wallet_that_comes_back_to_what_it_was_is_no_finding(world: World) -> None:
    """Its sums and the ledger's are the same at both looks, each time with an entry between the two."""
    orders = world.parts.orders

    def hold() -> Order:
        acceptance = orders.accept(draft(), until=UNTIL)
        assert isinstance(acceptance, Accepted)
        return acceptance.order

    def release() -> None:
        [held] = [one for one in orders.page("acme") if one.state is OrderState.SENDING]
        orders.reject(held, None, until=UNTIL)

    table = world.parts.table
    acts: list[Callable[[], Any]] = [hold, release, hold]  # before the wallet, the ledger, the wallet again

    def at_the_wallet(name: str, _request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if acts and (name == "get_item" or len(acts) < 3):
            acts.pop(0)()
        return call()

    assert list(findings(replace(table, client=cast("Any", Faulty(table.client, at_the_wallet))))) == []
    assert not acts


def test_what_is_wrong_is_found_beside_what_moves(world: World) -> None:
    first = world.add().order
    world.parts.table.delete_many([("T#acme", f"LEDGER#HOLD#{first}")])
    table = in_use(world.parts.table, ordering(world), 20)
    assert records(table) == [f"T#acme LEDGER#HOLD#{first}", "T#acme WALLET"]


def at_times_lost(panel: PretendPanel, fields: dict[str, str]) -> Reply:
    return loses_the_request(panel, fields) if int(fields["quantity"]) % 5 == 0 else buys(panel, fields)


def test_an_audit_beside_many_who_order_finds_nothing(world: World) -> None:
    world.panel.behaviours["add"] = at_times_lost
    slow = Clock(now=lambda: time.time_ns() // 1000, sleep=lambda seconds: time.sleep(seconds / 10))
    table = replace(world.parts.table, clock=slow)
    key = world.add_tenant(Tenant(id="busy", interval=1, burst=1000))
    with ThreadPoolExecutor(4) as pool:
        adds = [pool.submit(world.add, key, idempotency_key=f"k{n}", quantity=50 + n) for n in range(150)]
        audits = 0
        while not all(one.done() for one in adds):
            assert [str(one) for one in findings(table) if not one.in_motion] == []
            audits += 1
    assert audits
    assert len({one.result().order for one in adds}) == 150
    assert records(table) == []
