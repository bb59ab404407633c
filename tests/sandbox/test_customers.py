"""One panel has several customers: each sees and pays their own orders, and their numbers are given in turn."""

from pathlib import Path

import pytest

from sandbox.server import Sandbox
from tests.sandbox.callers import LINK, Caller, FakeClock

KEY = "another-customers-key"


@pytest.fixture
def both(smosale: Caller) -> Caller:
    smosale.admin("PUT", "customers/second", {"keys": [KEY], "balance": "10"})
    return smosale


def add(caller: Caller, **fields: object) -> str:
    return str(caller.ask("add", **{"service": 1, "quantity": 1000, "link": LINK, **fields})["order"])


def test_each_has_a_balance_of_their_own(both: Caller) -> None:
    add(both, key=KEY)
    assert both.ask("balance", key=KEY) == {"balance": "9.1", "currency": "USD"}
    assert both.balance() == "100.84292"
    add(both)
    assert both.ask("balance", key=KEY)["balance"] == "9.1"
    assert both.admin("GET", "")["customers"] == {"second": {"keys": [KEY], "balance": "9.10"}}


def test_nobody_sees_anothers_order_or_refill(both: Caller, clock: FakeClock) -> None:
    mine, theirs = add(both), add(both, key=KEY)
    assert int(theirs) == int(mine) + 1
    clock.forward(60)
    for number, own, foreign in ((mine, both.key, KEY), (theirs, KEY, both.key)):
        assert both.ask("status", order=number, key=own)["status"] == "Completed"
        refill = both.ask("refill", order=number, key=own)["refill"]
        assert both.ask("refill_status", refill=refill, key=own) == {"status": "Pending"}
        assert both.ask("refill_status", refill=refill, key=foreign) == {"error": "Refill not found"}
        assert both.ask("status", order=number, key=foreign) == {"error": "Incorrect order ID"}
        assert both.ask("refill", order=number, key=foreign) == {"error": "Incorrect order ID"}
        assert both.ask("cancel", orders=number, key=foreign)[0]["cancel"] == {"error": "Incorrect order ID"}
    shown = both.ask("status", orders=f"{mine},{theirs}", key=KEY)
    assert (shown[mine], shown[theirs]["status"]) == ({"error": "Incorrect order ID"}, "Completed")


def test_refunds_go_to_whoever_paid(both: Caller, clock: FakeClock) -> None:
    add(both, key=KEY, link=f"{LINK}/fail")
    clock.forward(60)
    assert both.balance() == "100.84292"
    assert both.ask("balance", key=KEY)["balance"] == "10"


def test_a_subscription_is_paid_by_whoever_made_it(both: Caller, clock: FakeClock) -> None:
    fields = {"username": "star", "min": 100, "max": 200, "posts": 1, "delay": 0, "key": KEY}
    subscription = next(one for one in both.ask("services") if one["type"] == "Subscriptions")["service"]
    number = both.ask("add", **{**fields, "service": subscription})["order"]
    clock.forward(60)
    [child] = both.ask("status", order=number, key=KEY)["orders"]
    assert "charge" in both.ask("status", order=child, key=KEY)
    assert both.ask("status", order=child) == {"error": "Incorrect order ID"}
    assert both.balance() == "100.84292"


def test_links_are_taken_by_customer(both: Caller) -> None:
    both.admin("PUT", "settings", {"refuse_duplicate_links": True})
    add(both)
    add(both, key=KEY)
    assert "error" in both.ask("add", service=1, quantity=1000, link=LINK, key=KEY)


@pytest.mark.parametrize("body", [{"keys": ["a"]}, {"keys": "a", "balance": "1"}, {"balance": "1"}, []])
def test_a_customer_has_keys_and_a_balance(smosale: Caller, body: object) -> None:
    assert smosale.admin_response("PUT", "customers/second", body).status_code == 400


def test_the_first_day_has_one_customer(both: Caller) -> None:
    both.admin("POST", "reset")
    assert both.ask("balance", key=KEY) == {"error": "Invalid API key"}


def test_customers_survive_a_restart(clock: FakeClock, both: Caller, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Sandbox(clock=clock, rate_limits=False, state_file=state) as running:
        caller = Caller("smosale", both.http, running)
        caller.admin("PUT", "customers/second", {"keys": [KEY], "balance": "10"})
        number = add(caller, key=KEY)
    with Sandbox(clock=clock, rate_limits=False, state_file=state) as running:
        caller = Caller("smosale", both.http, running)
        assert caller.ask("balance", key=KEY)["balance"] == "9.1"
        assert caller.ask("status", order=number, key=KEY)["charge"] == "0.9"
        assert caller.ask("status", order=number) == {"error": "Incorrect order ID"}
