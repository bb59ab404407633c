"""The life of orders and of the money in them."""

import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.messages import PanelError
from sandbox.panel import Panel
from sandbox.profiles import PROFILES
from sandbox.server import Sandbox
from tests.sandbox.callers import LINK, Caller, FakeClock
from tests.sandbox.conftest import Calling

START = Decimal("100.84292")


def balance(caller: Caller) -> Decimal:
    return Decimal(caller.balance())


@dataclass(frozen=True)
class End:
    """What a mark in the link leads to, at smosale, mysticsmm and smmafrica."""

    mark: str
    statuses: tuple[str, str, str]
    remains: int | None
    paid_back: str


ENDS = [
    End("partial", ("Partial", "PARTIAL", "partial"), 300, "0.3"),
    End("cancel", ("Canceled", "CANCELLED", "canceled"), None, "1"),
    End("cancel-partial", ("Canceled", "CANCELLED", "canceled"), 300, "0.3"),
    End("FAIL", ("Fail", "CANCELLED", "refunded"), None, "1"),
    End("slowstart", ("Pending", "PENDING", "pending"), None, "0"),
]


class TestLife:
    @pytest.mark.parametrize(
        ("seconds", "status", "remains"),
        [
            (0, "Pending", "1000"),
            (9.9, "Pending", "1000"),
            (10, "Processing", "1000"),
            (20, "In progress", "1000"),
            (40, "In progress", "500"),
            (60, "Completed", "0"),
            (9999, "Completed", "0"),
        ],
    )
    def test_moves_with_time(
        self, smosale: Caller, clock: FakeClock, seconds: float, status: str, remains: str
    ) -> None:
        order = smosale.add()
        clock.forward(seconds)
        found = smosale.status(order)
        assert (found["status"], found["remains"]) == (status, remains)

    def test_speed_scales_it(self, clock: FakeClock, http: httpx.Client) -> None:
        with Sandbox(clock=clock, speed=10) as fast:
            caller = Caller("smosale", http, fast)
            order = caller.add()
            clock.forward(6)
            assert caller.status(order)["status"] == "Completed"

    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.mark)
    @pytest.mark.parametrize("place", range(3), ids=["smosale", "mysticsmm", "smmafrica"])
    def test_link_decides_the_end(self, calling: Calling, clock: FakeClock, place: int, end: End) -> None:
        caller = calling(("smosale", "mysticsmm", "smmafrica")[place])
        start = balance(caller)
        order = caller.add(f"{LINK}/{end.mark}")
        charge = start - balance(caller)
        clock.forward(100)
        found = caller.status(order)
        assert found["status"] == end.statuses[place]
        assert end.remains is None or int(found["remains"]) == end.remains
        assert balance(caller) == start - charge + charge * Decimal(end.paid_back)

    def test_mysticsmm_cancels_with_nothing_remaining_and_pays_all_back(
        self, mysticsmm: Caller, clock: FakeClock
    ) -> None:
        order = mysticsmm.add(LINK + "/fail")
        clock.forward(60)
        found = mysticsmm.status(order)
        assert (found["status"], found["remains"], found["charge"]) == ("CANCELLED", 0, 2.50)
        assert mysticsmm.balance() == "150.00"

    def test_mysticsmm_cancels_before_delivery_without_counts(self, mysticsmm: Caller, clock: FakeClock) -> None:
        order = mysticsmm.add(LINK + "/cancel")
        clock.forward(60)
        assert mysticsmm.status(order) == {"charge": 2.50, "status": "CANCELLED", "currency": "USD"}

    def test_mysticsmm_refunds_its_own_example(self, mysticsmm: Caller, clock: FakeClock) -> None:
        order = mysticsmm.add(LINK + "/partial", quantity=10_000)
        assert mysticsmm.balance() == "125.00"
        clock.forward(60)
        assert mysticsmm.status(order)["remains"] == 3000
        assert mysticsmm.balance() == "132.50"

    def test_ids_grow_by_one(self, smosale: Caller) -> None:
        assert [smosale.add() for _ in range(3)] == ["23501", "23502", "23503"]


class TestCancelRequest:
    def test_takes_effect_later(self, smosale: Caller, clock: FakeClock) -> None:
        order = smosale.add()
        smosale.ask("cancel", orders=order)
        assert smosale.status(order)["status"] == "Pending"
        clock.forward(5)
        assert smosale.status(order)["status"] == "Canceled"
        assert balance(smosale) == START

    def test_during_delivery_ends_partial(self, smosale: Caller, clock: FakeClock) -> None:
        order = smosale.add()
        clock.forward(35)
        smosale.ask("cancel", orders=order)
        clock.forward(100)
        found = smosale.status(order)
        assert (found["status"], found["remains"], found["charge"]) == ("Partial", "500", "0.45")
        assert balance(smosale) == START - Decimal("0.45")

    def test_loses_to_a_natural_end(self, smosale: Caller, clock: FakeClock) -> None:
        order = smosale.add()
        clock.forward(58)
        smosale.ask("cancel", orders=order)
        clock.forward(10)
        assert smosale.status(order)["status"] == "Completed"

    def test_is_refused_when_too_late_or_not_offered(self, smosale: Caller, clock: FakeClock) -> None:
        done, uncancelable = smosale.add(), smosale.add(service=9, quantity=100, answer_number=1)
        assert smosale.ask("cancel", orders=uncancelable)[0]["cancel"] == {"error": "Order cannot be canceled"}
        clock.forward(60)
        assert smosale.ask("cancel", orders=done)[0]["cancel"] == {"error": "Order cannot be canceled"}


class TestRefillRequest:
    def test_needs_a_completed_order_of_a_service_with_refill(self, smosale: Caller, clock: FakeClock) -> None:
        plain, partial = smosale.add(service=3), smosale.add(LINK + "/partial")
        early = smosale.add()
        assert smosale.ask("refill", order=early) == {"error": "Order not eligible for refill."}
        clock.forward(60)
        for order in (plain, partial):
            assert smosale.ask("refill", order=order) == {"error": "Order not eligible for refill."}


SMOSALE_TYPES = [
    (1, {"quantity": "100"}, "0.09"),
    (2, {"comments": "\r\n".join(["nice", ""] * 10)}, "0.08"),
    (2, {"comments": "\n".join(["nice"] * 10), "quantity": "9999"}, "0.08"),
    (2, {"comments": "\n".join(["n\u2028i\x85ce \U0001f600"] * 10)}, "0.08"),
    (3, {"quantity": "10", "runs": "5", "interval": "30"}, "0.0125"),
    (1, {"quantity": "100", "runs": "5", "interval": "30"}, "0.09"),
    (4, {}, "4.5"),
    (4, {"quantity": "0"}, "4.5"),
    (5, {"comments": "one\ntwo"}, "6.75"),
    (6, {"usernames": "a\nb\nc\nd\ne"}, "0.015"),
    (7, {"quantity": "20", "hashtag": "cats"}, "0.042"),
    (8, {"quantity": "10", "username": "owner"}, "0.0135"),
    (9, {"quantity": "100", "answer_number": "2"}, "0.08"),
    (11, {"quantity": "100", "country": "US", "device": "5", "type_of_traffic": "3"}, "0.015"),
    (
        11,
        {"quantity": "100", "country": "US", "device": "5", "type_of_traffic": "1", "google_keyword": "x"},
        "0.015",
    ),
    (12, {"quantity": "100", "groups": "one\ntwo"}, "0.175"),
]

SMMRICH_TYPES = [
    (4, {"quantity": "100", "keywords": "a\nb"}, "0.11"),
    (5, {"quantity": "20", "usernames": "a", "hashtags": "b"}, "0.048"),
    (6, {"quantity": "20", "username": "a"}, "0.044"),
    (7, {"quantity": "20", "media": "https://x.test/1"}, "0.046"),
    (8, {"quantity": "20", "usernames": "a"}, "0.04"),
    (9, {"username": "a", "comments": "1\n2\n3\n4\n5"}, "0.0475"),
]


class TestTypes:
    @pytest.mark.parametrize(("service", "fields", "charge"), SMOSALE_TYPES)
    def test_costs_at_smosale(self, smosale: Caller, service: int, fields: dict[str, str], charge: str) -> None:
        reply = smosale.ask("add", service=service, link=LINK, **fields)
        assert balance(smosale) == START - Decimal(charge), reply

    @pytest.mark.parametrize(("service", "fields", "charge"), SMMRICH_TYPES)
    def test_costs_at_smmrich(
        self, sandbox: Sandbox, http: httpx.Client, service: int, fields: dict[str, str], charge: str
    ) -> None:
        smmrich = Caller("smmrich", http, sandbox)
        reply = smmrich.ask("add", service=service, link=LINK, **fields)
        assert balance(smmrich) == START - Decimal(charge), reply

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"service": "1", "quantity": "100", "link": ""}, "Incorrect link"),
            ({"service": "1"}, "Incorrect quantity"),
            ({"service": "1", "quantity": "1e3"}, "Incorrect quantity"),
            ({"service": "1", "quantity": "49"}, "Quantity less than minimal 50"),
            ({"service": "1", "quantity": "10001"}, "Quantity more than maximum 10000"),
            ({"service": "2", "comments": "just one"}, "Quantity less than minimal 10"),
            ({"service": "2"}, "Incorrect request"),
            ({"service": "3", "quantity": "10", "runs": "2"}, "Incorrect request"),
            ({"service": "8", "quantity": "10"}, "Incorrect request"),
            ({"service": "11", "quantity": "100", "country": "US", "device": "5", "type_of_traffic": "2"},
             "Incorrect request"),
            ({"service": "99", "quantity": "100"}, "Incorrect service ID"),
            ({"service": "one", "quantity": "100"}, "Incorrect service ID"),
            ({"service": "2", "comments": "\n".join("a" * 1500), "link": "a"}, None),
        ],
    )  # fmt: skip
    def test_are_checked(self, smosale: Caller, fields: dict[str, str], sentence: str | None) -> None:
        assert smosale.ask("add", **{"link": LINK, **fields}).get("error") == sentence

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"service": "77"}, "error.incorrect_service_id"),
            ({"link": ""}, "neworder.error.link"),
            ({"quantity": "1"}, "neworder.error.min_quantity"),
            ({"quantity": "10001"}, "neworder.error.max_quantity"),
            ({"service": "11", "quantity": ""}, None),
        ],
    )
    def test_smmrich_leaks_language_keys(
        self, sandbox: Sandbox, http: httpx.Client, fields: dict[str, str], sentence: str | None
    ) -> None:
        smmrich = Caller("smmrich", http, sandbox)
        reply = smmrich.ask("add", **{"service": "1", "link": LINK, "quantity": "1000", **fields})
        assert reply.get("error") == sentence


class TestFunds:
    def test_refuses_what_is_not_there(self, smosale: Caller) -> None:
        smosale.admin("PUT", "balance", {"balance": "0.9"})
        smosale.add()
        assert smosale.ask("add", service=1, link=LINK, quantity=50) == {"error": "Not enough funds on balance"}
        assert smosale.balance() == "0"

    def test_a_due_refund_counts(self, smosale: Caller, clock: FakeClock) -> None:
        smosale.admin("PUT", "balance", {"balance": "0.9"})
        smosale.add(LINK + "/cancel")
        clock.forward(10)
        smosale.add()
        assert smosale.balance() == "0"

    def test_two_orders_with_one_link_are_welcome_until_told(self, smosale: Caller, clock: FakeClock) -> None:
        smosale.add()
        smosale.add()
        smosale.admin("PUT", "settings", {"refuse_duplicate_links": True})
        refused = smosale.ask("add", service=3, link=LINK, quantity=100)
        assert refused["error"].startswith("You have active order with this link.")
        smosale.admin("PUT", "settings", {"language_keys": True})
        assert smosale.ask("add", service=3, link=LINK, quantity=100) == {"error": "neworder.error.link_duplicate"}
        clock.forward(60)
        assert smosale.ask("add", service=3, link=LINK, quantity=100) == {"order": 23503}

    def test_concurrent_adds_get_ids_of_their_own(self, smosale: Caller) -> None:
        placed: list[str] = []

        def place() -> None:
            with httpx.Client(trust_env=False) as http:
                caller = Caller("smosale", http, smosale.sandbox)
                placed.extend(caller.add() for _ in range(5))

        threads = [threading.Thread(target=place) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(placed)) == 40
        assert balance(smosale) == START - Decimal("0.9") * 40
        assert sorted(str(entry["order"]) for entry in smosale.adds()) == sorted(placed)


SUBSCRIPTION: dict[str, Any] = {"service": 10, "username": "someone", "min": 10, "max": 20, "delay": 0}


class TestSubscriptions:
    def test_makes_an_order_for_each_post(self, smosale: Caller, clock: FakeClock) -> None:
        parent = smosale.add(**SUBSCRIPTION, posts=2, old_posts=1, expiry="31/12/2030")
        assert balance(smosale) == START
        clock.forward(10)
        assert smosale.status(parent) == {
            "status": "Active",
            "expiry": "31/12/2030",
            "posts": "1",
            "orders": [int(parent) + 1],
        }
        clock.forward(1000)
        done = smosale.status(parent)
        assert (done["status"], len(done["orders"])) == ("Completed", 3)
        children = smosale.ask("status", orders=",".join(map(str, done["orders"])))
        spent = sum(Decimal(child["charge"]) for child in children.values())
        assert balance(smosale) == START - spent
        assert spent > 0

    def test_old_posts_only(self, smosale: Caller, clock: FakeClock) -> None:
        parent = smosale.add(**SUBSCRIPTION, posts=0, old_posts=2)
        assert smosale.status(parent) == {"status": "Active", "expiry": None, "posts": "0", "orders": []}
        clock.forward(10)
        assert smosale.status(parent)["status"] == "Completed"

    def test_without_posts_it_goes_on_until_canceled(self, smosale: Caller, clock: FakeClock) -> None:
        parent = smosale.add(**SUBSCRIPTION)
        clock.forward(10 + 30 * 5)
        assert smosale.status(parent)["posts"] == "5"
        smosale.ask("cancel", orders=parent)
        clock.forward(300)
        found = smosale.status(parent)
        assert (found["status"], found["posts"]) == ("Canceled", "5")

    def test_expires(self, smosale: Caller, clock: FakeClock) -> None:
        parent = smosale.add(**SUBSCRIPTION, expiry="31/12/2025")
        clock.forward(366 * 86400)
        assert smosale.status(parent)["status"] == "Expired"

    def test_pauses_without_funds_and_goes_on(self, smosale: Caller, clock: FakeClock) -> None:
        smosale.admin("PUT", "balance", {"balance": "0"})
        parent = smosale.add(**SUBSCRIPTION, posts=0, old_posts=1)
        clock.forward(10)
        assert smosale.status(parent)["status"] == "Paused"
        smosale.admin("PUT", "balance", {"balance": "5"})
        assert smosale.status(parent)["status"] == "Completed"

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"username": ""}, "Incorrect request"),
            ({"delay": 7}, "Incorrect request"),
            ({"min": 30}, "Incorrect request"),
            ({"min": 1}, "Quantity less than minimal 10"),
            ({"max": 99999}, "Quantity more than maximum 5000"),
            ({"expiry": "2025-12-31"}, "Incorrect request"),
        ],
    )
    def test_are_checked(self, smosale: Caller, fields: dict[str, object], sentence: str) -> None:
        assert smosale.ask("add", **{**SUBSCRIPTION, **fields}) == {"error": sentence}


OUTCOMES = st.sampled_from(["", "partial", "cancel", "cancel-partial", "fail", "slowstart"])
STEPS = st.one_of(
    st.tuples(st.just("add"), OUTCOMES, st.integers(50, 10_000)),
    st.tuples(st.just("wait"), st.floats(0, 30), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(23501, 23510), st.just(0)),
)


@given(st.lists(STEPS, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_money_is_made_or_lost(steps: list[tuple[str, float | str, int]]) -> None:
    clock = FakeClock()
    panel = Panel(PROFILES[0], clock=clock, speed=1, rate_limits=False)
    for what, value, quantity in steps:
        try:
            if what == "add":
                panel.place({"service": "1", "link": f"https://x.test/{value}", "quantity": str(quantity)})
            elif what == "wait":
                clock.forward(float(value))
            else:
                panel.cancel(str(value))
        except PanelError:
            pass
        assert panel.funds() >= 0
        kept = sum((order.charge - order.refunded for order in panel.orders.values()), Decimal(0))
        assert panel.balance + kept == START
