"""Browser tokens, named by what becomes of them: never wider than their parent, never told more than they may know."""

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from chalicelib.api.cors import preflight
from chalicelib.clock import MINUTE, SECOND
from chalicelib.keys import _checksum, new_browser_token, parse_browser_token, parse_client_key
from chalicelib.model import Provider, Tenant, Token
from tests.api.http import Answered, Caller, container, incoming, v2, v3
from tests.faults import Hit, Wire, reply_lost
from tests.market import Market
from tests.world import COMMENTS, FOLLOWERS, LINK, World, buys_and_loses_the_answer, cannot_be_reached, says

PAGE, OTHER_PAGE = "https://shop.example", "https://blog.example"
SHOP = Tenant(id="shop", origins=frozenset({PAGE, OTHER_PAGE}), markup=Decimal("0.1"))
# 100 at 0.90 × 1.1 per 1000.
ADD = {"action": "add", "service": 1001, "link": LINK, "quantity": 100}
CHARGE = "0.099"
ALL = ["services", "add", "status", "refill", "refill_status", "cancel", "orders"]
SEES_NO_PRICE = {"balance", "charge", "charged", "rate"}


@pytest.fixture
def shop(world: World) -> World:
    """Return a world whose key is that of a tenant with two pages."""
    world.key = world.add_tenant(SHOP)
    return world


def ask_token(world: Caller, key: str | None = None, **fields: Any) -> Answered:
    given = {"action": "token", "actions": ALL, "ttl": 600, **fields}
    return v3(world, given, headers={"authorization": f"Bearer {key or world.key}"})


def token(world: Caller, key: str | None = None, **fields: Any) -> str:
    answer = ask_token(world, key, **fields)
    assert answer.status == 200, answer.text
    text: str = answer.json["token"]
    return text


def page(world: Caller, key: str, fields: Mapping[str, Any], *, origin: str | None = PAGE, **given: Any) -> Answered:
    """Ask as a page does."""
    headers = {"authorization": f"Bearer {key}", **({} if origin is None else {"origin": origin})}
    return v3(world, fields, headers={**headers, **given.pop("headers", {})}, **given)


def refused(answer: Answered) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def placed(world: World, key: str, **fields: Any) -> int:
    answer = page(world, key, {**ADD, **fields})
    assert answer.status == 200, answer.text
    return int(answer.json["order"])


def listed(world: World, key: str, **fields: Any) -> list[int]:
    answer = page(world, key, {"action": "orders", **fields})
    assert answer.status == 200, answer.text
    return [row["order"] for row in answer.json["orders"]]


def client(world: World, **settings: Any) -> str:
    return world.clients.create("shop", **settings).key


# -- being issued ----------------------------------------------------------------------------------------------------


def test_200_a_token_says_when_it_ends_and_is_stored_as_a_digest_only(shop: World) -> None:
    answer = ask_token(shop, origin=PAGE)
    assert answer.json["expires_at"] == "2027-01-15T08:10:00.000Z"
    text = answer.json["token"]
    assert text.startswith("pgb_shop_")
    secret = text.rpartition("_")[2]
    assert secret not in json.dumps(list(shop.parts.table.query("T#shop")), default=repr)
    placed(shop, text)


def test_a_token_is_no_client_key_and_a_client_key_no_token(shop: World) -> None:
    text = token(shop)
    assert parse_client_key(text) is None
    assert parse_browser_token(shop.key) is None
    assert parse_browser_token(text[:-1] + ("0" if text[-1] != "0" else "1")) is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"actions": []}, "actions"),
        ({"actions": None}, "actions"),
        ({"actions": "add"}, "actions"),
        ({"actions": ["add", "buy"]}, "actions"),
        ({"actions": ["usage"]}, "actions"),
        ({"actions": ["token"]}, "actions"),
        ({"actions": ["add", 5]}, "actions"),
        ({"actions": [["add"]]}, "actions"),
        ({"actions": {"add": 1}}, "actions"),
        ({"actions": ["balance"]}, "prices"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": 3601}, "ttl"),
        ({"ttl": 1.5}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": "600"}, "ttl"),
        ({"ttl": None}, "ttl"),
        ({"origin": ""}, "origin"),
        ({"origin": None}, "origin"),
        ({"origin": [PAGE]}, "origin"),
        ({"services": []}, "services"),
        ({"services": None}, "services"),
        ({"services": 1001}, "services"),
        ({"services": ["1001"]}, "services"),
        ({"services": [True]}, "services"),
        ({"services": [0]}, "services"),
        ({"services": list(range(1, 102))}, "services"),
        ({"max_charge": None}, "max_charge"),
        ({"max_charge": -1}, "max_charge"),
        ({"max_charge": "much"}, "max_charge"),
        ({"subject": ""}, "subject"),
        ({"subject": None}, "subject"),
        ({"subject": "a b"}, "subject"),
        ({"subject": "x" * 129}, "subject"),
        ({"subject": "\u0000"}, "subject"),
        ({"subject": 17}, "subject"),
        ({"prices": "yes"}, "prices"),
        ({"prices": 1}, "prices"),
        ({"prices": None}, "prices"),
        ({"providers": ["smosale"]}, "fields"),
        ({"admin": True}, "fields"),
        ({"expires_at": "2099-01-01T00:00:00Z"}, "fields"),
        ({"idempotency_key": "k"}, "fields"),
    ],
)
def test_400_what_is_empty_unknown_or_too_much_makes_no_token(shop: World, fields: dict[str, Any], field: str) -> None:
    answer = ask_token(shop, **fields)
    assert refused(answer) == (400, "invalid_request")
    assert field in answer.json["error"]
    assert not list(shop.parts.table.query("T#shop", "TOKEN#"))


@pytest.mark.parametrize("missing", ["actions", "ttl"])
def test_422_actions_and_a_life_must_be_given(shop: World, missing: str) -> None:
    fields = {"action": "token", "actions": ["add"], "ttl": 60}
    del fields[missing]
    assert refused(v3(shop, fields)) == (422, "missing_field")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "*", PAGE + "/", PAGE.upper(), "http://shop.example"]
)
def test_403_an_origin_that_the_tenant_does_not_list(shop: World, origin: str) -> None:
    assert refused(ask_token(shop, origin=origin)) == (403, "forbidden")


# -- never wider than its parent -------------------------------------------------------------------------------------


def test_403_no_action_that_its_parent_has_not(shop: World) -> None:
    parent = client(shop, actions=["token", "status"])
    assert refused(ask_token(shop, parent, actions=["status", "add"])) == (403, "forbidden")
    child = token(shop, parent, actions=["status"])
    assert refused(page(shop, child, ADD)) == (403, "forbidden")


def test_403_a_key_without_the_action_makes_none(shop: World) -> None:
    assert refused(ask_token(shop, client(shop, actions=["add"]), actions=["add"])) == (403, "forbidden")


@pytest.mark.parametrize("action", ["usage", "token", "balance"])
def test_403_what_it_was_not_given(shop: World, action: str) -> None:
    child = token(shop)
    fields = {"action": action, "actions": ["add"], "ttl": 60} if action == "token" else {"action": action}
    assert refused(page(shop, child, fields)) == (403, "forbidden")


def test_a_token_has_no_provider_that_its_parent_has_not(shop: World) -> None:
    shop.add_provider(Provider(slug="other", number=0, dialect="perfectpanel", url="https://other.test/api/v2"))
    parent = client(shop, providers=["other"])
    assert refused(ask_token(shop, parent, services=[1001])) == (404, "service_not_found")
    child = token(shop, parent, subject="c")
    assert refused(page(shop, child, ADD)) == (404, "service_not_found")
    order = placed(shop, token(shop, subject="c"))
    assert refused(page(shop, child, {"action": "status", "order": order})) == (404, "order_not_found")
    assert placed(shop, child, service=1002)


def test_it_orders_and_lists_its_services_only(shop: World) -> None:
    child = token(shop, services=[2001, 2001])
    assert refused(page(shop, child, ADD)) == (404, "service_not_found")
    assert [row["service"] for row in page(shop, child, {"action": "services"}).json] == [2001]
    assert not shop.panel.purchases
    placed(shop, child, service=2001, quantity="", comments="\n".join("abcdefghij"))


def test_what_the_tenant_may_not_order_any_more_its_tokens_may_not(shop: World) -> None:
    child = token(shop, services=[1001, 2001])
    shop.registry.change_tenant("shop", partial(replace, services=frozenset({2001})))
    assert refused(page(shop, child, ADD)) == (404, "service_not_found")
    assert refused(ask_token(shop, services=[1001])) == (404, "service_not_found")


def test_403_its_parents_addresses_bind_it(shop: World) -> None:
    parent = client(shop, networks=["203.0.113.0/24"])
    child = token(shop, parent)
    assert refused(page(shop, child, ADD, address="198.51.100.1")) == (403, "forbidden")
    placed(shop, child)


def test_401_it_ends_when_it_said(shop: World) -> None:
    child = token(shop, ttl=60)
    shop.time.sleep(59)
    placed(shop, child)
    shop.time.sleep(1)
    assert refused(page(shop, child, ADD)) == (401, "invalid_api_key")


def test_401_it_ends_with_the_key_that_it_was_asked_with(shop: World) -> None:
    parent = client(shop, expires=shop.time.at + MINUTE)
    answer = ask_token(shop, parent, ttl=3600)
    assert answer.json["expires_at"] == "2027-01-15T08:01:00.000Z"
    shop.time.sleep(60)
    assert refused(page(shop, answer.json["token"], ADD)) == (401, "invalid_api_key")


def test_401_it_ends_when_its_client_is_revoked_and_others_live_on(shop: World) -> None:
    issued = shop.clients.create("shop")
    child, other = token(shop, issued.key), token(shop)
    placed(shop, child)
    shop.clients.revoke(issued.client.id)
    assert refused(page(shop, child, ADD)) == (401, "invalid_api_key")
    placed(shop, other)


def test_it_outlives_a_rotation_and_the_old_keys_end(shop: World) -> None:
    issued = shop.clients.create("shop")
    child = token(shop, issued.key, ttl=3600)
    shop.clients.rotate(issued.client.id, overlap=MINUTE)
    late = ask_token(shop, issued.key, ttl=3600)
    assert late.json["expires_at"] == "2027-01-15T08:01:00.000Z", "not longer than the key that asked for it"
    shop.time.sleep(120)
    assert refused(ask_token(shop, issued.key)) == (401, "invalid_api_key")
    placed(shop, child)


def test_403_it_rests_while_its_tenant_is_suspended(shop: World) -> None:
    child = token(shop)
    shop.registry.set_active("shop", active=False)
    answer = page(shop, child, ADD)
    assert refused(answer) == (403, "forbidden")
    assert not shop.panel.purchases
    shop.registry.set_active("shop", active=True)
    placed(shop, child)


def test_401_a_client_that_is_revoked_while_it_asks_gets_none(shop: World) -> None:
    issued = shop.clients.create("shop")
    session = shop.session(issued.key)
    key = parse_browser_token(new_browser_token("shop"))
    assert key is not None
    shop.clients.revoke(issued.client.id)
    issuing = shop.parts.gateway.tokens
    made = Token(id=key.id, tenant="shop", scope=session.scope, expires=shop.time.at + SECOND)
    assert issuing.issue(made, key, until=shop.time.at + SECOND) is False
    assert issuing.find(key) is None


def test_only_a_clients_first_token_is_noted_in_its_tenants_item(shop: World) -> None:
    another = client(shop)
    first, further = ["update_item", "transact_write_items"], ["update_item", "put_item"]
    for key, expected in ((shop.key, first), (shop.key, further), (another, first), (shop.key, further)):
        shop.time.sleep(60)
        asker, recorded = container(shop)
        child = token(asker, key)
        assert [name for name, _ in recorded.calls] == expected
        placed(shop, child)


def test_401_a_further_token_of_a_client_that_is_revoked_while_it_asks_is_none(shop: World) -> None:
    issued = shop.clients.create("shop")
    token(shop, issued.key)
    shop.time.sleep(60)

    def revoke_first(hit: Hit) -> Any:
        shop.clients.revoke(issued.client.id)
        return hit.call()

    wire = Wire(shop, revoke_first, at=1)
    child = token(replace(shop, parts=shop.twin(wire.client(shop.parts.table.client))), issued.key)
    assert wire.names[-1] == "put_item"
    assert refused(page(shop, child, ADD)) == (401, "invalid_api_key")


@pytest.mark.parametrize("before", [0, 1])
def test_a_token_whose_reply_is_lost_is_a_token(shop: World, before: int) -> None:
    for _ in range(before):
        token(shop)
    shop.time.sleep(60)
    wire = Wire(shop, reply_lost, at=1)
    child = token(replace(shop, parts=shop.twin(wire.client(shop.parts.table.client))))
    assert wire.calls == 3
    placed(shop, child)
    assert len(list(shop.parts.table.query("T#shop", "TOKEN#"))) == before + 1


@pytest.mark.parametrize(
    "shape", ["unknown", "wrong", "expired", "expired of who is suspended", "revoked", "checksum", "foreign"]
)
def test_401_all_bad_tokens_look_alike_and_cost_the_tenant_nothing(shop: World, shape: str) -> None:
    issued = shop.clients.create("shop")
    good = token(shop, issued.key, ttl=60)
    fresh = new_browser_token("shop")
    bad = {
        "unknown": lambda: fresh,
        "wrong": lambda: _forged(good),
        "expired": lambda: good,
        "expired of who is suspended": lambda: good,
        "revoked": lambda: good,
        "checksum": lambda: good[:-6] + "000000",
        "foreign": lambda: new_browser_token("acme"),
    }[shape]()
    if shape.startswith("expired"):
        shop.time.sleep(60)
    if shape == "expired of who is suspended":
        shop.add_tenant(Tenant(id="neighbour", origins=SHOP.origins))
        shop.registry.set_active("shop", active=False)
    if shape == "revoked":
        shop.clients.revoke(issued.client.id)
    before = shop.parts.table.get("T#shop", "TENANT")
    asker, recorded = container(shop)
    answer = page(asker, bad, {"action": "services"})
    # Two look for whoever lists the page.
    assert len(recorded.calls) == (2 if shape == "checksum" else 4), recorded.calls
    assert (answer.status, answer.json["error"]) == (401, "Invalid API key")
    assert answer.headers.keys() == page(shop, "x", {"action": "services"}).headers.keys()
    asked = len(recorded.calls)
    again = page(asker, bad, {"action": "services"}, origin=None)
    assert (again.status, len(recorded.calls)) == (401, asked), "it is known to be wrong"
    assert shop.parts.table.get("T#shop", "TENANT") == before


def test_429_tokens_that_never_were_are_guesses_and_those_that_are_over_are_none(shop: World) -> None:
    over = [token(shop, ttl=60) for _ in range(12)]
    shop.time.sleep(60)
    assert {page(shop, one, ADD).status for one in over} == {401}
    assert {page(shop, new_browser_token("shop"), ADD).status for _ in range(10)} == {401}
    barred = page(shop, new_browser_token("shop"), ADD)
    assert refused(barred) == (429, "rate_limited")
    assert barred.headers["Retry-After"] == "6"
    shop.time.sleep(6)
    placed(shop, token(shop))


def _forged(good: str) -> str:
    """Return a well-formed token with the id of a good one and another secret."""
    head, other = good[:-49], new_browser_token("shop")
    return head + other[-49:-6] + _checksum(head + other[-49:-6])


# -- v2 --------------------------------------------------------------------------------------------------------------


def test_v2_knows_no_browser_tokens(shop: World) -> None:
    child = token(shop, prices=True, actions=[*ALL, "balance"])
    for fields in ({"action": "balance"}, {"action": "services"}, ADD):
        assert v2(shop, {**fields, "key": child}).json == {"error": "Invalid API key"}
    assert not shop.panel.purchases


# -- what it may spend -----------------------------------------------------------------------------------------------


def spent(world: Caller, text: str) -> int:
    key = parse_browser_token(text)
    assert key is not None
    item = world.parts.table.get(f"T#{key.tenant}", f"TOKEN#{key.id}")
    assert item is not None
    return int(item["spent"])


def test_402_its_orders_together_cost_no_more_than_it_may_spend(shop: World) -> None:
    child = token(shop, max_charge=0.2)
    placed(shop, child)
    placed(shop, child)
    over = page(shop, child, ADD)
    assert refused(over) == (402, "spend_limit_reached")
    assert CHARGE not in over.text
    assert len(shop.panel.purchases) == 2
    assert spent(shop, child) == 198_000
    assert shop.money("shop") == (100 * SECOND - 198_000, 0)


def test_402_a_token_that_may_spend_nothing(shop: World) -> None:
    assert refused(page(shop, token(shop, max_charge=0), ADD)) == (402, "spend_limit_reached")
    assert not shop.panel.purchases


def test_tokens_spend_apart(shop: World) -> None:
    one, two = token(shop, max_charge="0.1", subject="c"), token(shop, max_charge="0.1", subject="c")
    placed(shop, one)
    assert refused(page(shop, one, ADD)) == (402, "spend_limit_reached")
    placed(shop, two)


@pytest.mark.parametrize("behaviour", [cannot_be_reached, says({"error": "Incorrect link"})])
def test_what_was_not_bought_is_given_back(shop: World, behaviour: Any) -> None:
    child = token(shop, max_charge="0.1")
    shop.panel.behaviours["add"] = behaviour
    assert page(shop, child, ADD).status in (422, 503)
    assert spent(shop, child) == 0
    del shop.panel.behaviours["add"]
    placed(shop, child)
    assert spent(shop, child) == 99_000


def test_what_proves_not_to_be_placed_is_given_back_once(shop: World) -> None:
    child = token(shop, max_charge="0.1")
    shop.panel.behaviours["add"] = buys_and_loses_the_answer
    answer = page(shop, child, ADD)
    assert answer.status == 202
    assert refused(page(shop, child, ADD)) == (402, "spend_limit_reached")
    order = shop.parts.orders.get("shop", answer.json["order"])
    assert order is not None
    for _ in range(2):
        shop.parts.orders.give_up(order, "nothing there", until=shop.time.at + SECOND, source=order.journal[0].source)
    assert spent(shop, child) == 0
    assert shop.parts.orders.restore(order, 7, until=shop.time.at + SECOND)
    assert spent(shop, child) == 99_000


def test_what_comes_back_after_its_end_leaves_nothing_behind(shop: World) -> None:
    child = token(shop, max_charge="0.1", ttl=60)
    shop.panel.behaviours["add"] = buys_and_loses_the_answer
    order = shop.parts.orders.get("shop", page(shop, child, ADD).json["order"])
    key = parse_browser_token(child)
    assert order is not None
    assert key is not None
    shop.time.sleep(60)
    shop.parts.table.delete_many([("T#shop", f"TOKEN#{key.id}")])  # as its time to live does
    assert shop.parts.orders.give_up(order, "nothing", until=shop.time.at + SECOND, source=order.journal[0].source)
    assert shop.parts.table.get("T#shop", f"TOKEN#{key.id}") is None
    assert shop.money("shop") == (100 * SECOND, 0)


# Of a panel's service at 0.35 per 1000: 10_500 micro-USD a post at most.
SUBSCRIPTION = {"action": "add", "username": "star", "min": 20, "max": 30, "delay": 0}
POST = 10_500


def subscribe(market: Market, key: str, **fields: Any) -> Answered:
    service = market.service("smosale", "Subscriptions")
    return page(market, key, {**SUBSCRIPTION, "service": service, **fields}, origin=None)


@pytest.mark.parametrize(
    "posts", [{}, {"posts": ""}, {"posts": 0}, {"posts": "0", "old_posts": 1}, {"expiry": "31/12/2099"}]
)
def test_400_a_subscription_without_end_under_a_limit(market: Market, posts: dict[str, Any]) -> None:
    answer = subscribe(market, token(market, max_charge="0.5"), **posts)
    assert refused(answer) == (400, "invalid_request")
    assert "posts" in answer.json["error"]
    assert not market.bought("smosale")
    assert subscribe(market, token(market), **posts).status == 200, "where there is no limit, it may be without end"


def test_402_a_subscriptions_orders_together_cost_no_more_than_it_may_spend(market: Market) -> None:
    before, _ = market.money()
    child = token(market, max_charge="0.0315")
    assert refused(subscribe(market, child, posts=3, old_posts=1)) == (402, "spend_limit_reached")
    number = subscribe(market, child, posts=3).json["order"]
    assert spent(market, child) == 3 * POST
    assert refused(subscribe(market, child, posts=1)) == (402, "spend_limit_reached")
    for _ in range(12):
        market.time.sleep(120)
        v3(market, {"action": "status", "order": number})
    made = market.parts.orders.get("acme", number)
    assert made is not None
    assert len(made.children) == 3
    available, held = market.money()
    assert held == 0
    assert 0 < before - available <= 3 * POST


def test_no_race_passes_the_limit(shop: World) -> None:
    child = token(shop, max_charge="0.35")
    start = threading.Barrier(8)

    def order(_: int) -> int:
        start.wait()
        return page(shop, child, ADD).status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(order, range(8)))
    assert len(shop.panel.purchases) == statuses.count(200) <= 3
    assert set(statuses) <= {200, 402, 503}
    assert spent(shop, child) == 99_000 * statuses.count(200)


# -- whose orders it sees --------------------------------------------------------------------------------------------

# What asks for an order, and is to find another's as little as nobody's.
QUESTIONS = ("status", "refill", "cancel")


def test_it_sees_the_orders_of_its_subject_and_no_others(shop: World) -> None:
    mine, again, other, bare = (
        token(shop, subject="ann"),
        token(shop, subject="ann"),
        token(shop, subject="bob"),
        token(shop),
    )
    orders = {name: placed(shop, key) for name, key in (("mine", mine), ("other", other), ("bare", bare))}
    orders["own"] = placed(shop, shop.key)

    assert listed(shop, mine) == listed(shop, again) == [orders["mine"]]
    assert listed(shop, other) == [orders["other"]]
    assert listed(shop, bare) == [orders["bare"]]
    assert set(listed(shop, shop.key)) == set(orders.values()), "the tenant's programs see all"
    assert page(shop, again, {"action": "status", "order": orders["mine"]}).status == 200


@pytest.mark.parametrize("action", QUESTIONS)
def test_404_anothers_order_looks_like_nobodys(shop: World, action: str) -> None:
    other = [placed(shop, shop.key), placed(shop, token(shop, subject="bob")), placed(shop, token(shop))]
    before = len(shop.panel.requests)
    for mine in (token(shop, subject="ann"), token(shop)):
        nobodys = page(shop, mine, {"action": action, "order": 1_000_001})
        for order in other:
            answer = page(shop, mine, {"action": action, "order": order})
            assert _same(answer, nobodys)
        batch = page(shop, mine, {"action": action, "orders": [*other, 1_000_001]})
        assert {(row["error"], row["code"]) for row in batch.json["orders"]} == {
            ("Incorrect order ID", "order_not_found")
        }
    assert len(shop.panel.requests) == before, "no panel was asked"


def _same(one: Answered, other: Answered) -> bool:
    def body(answer: Answered) -> dict[str, Any]:
        return {name: value for name, value in answer.json.items() if name != "request_id"}

    return (one.status, body(one)) == (other.status, body(other)) and one.headers.keys() == other.headers.keys()


def test_404_anothers_refill_looks_like_nobodys(shop: World) -> None:
    shop.panel.behaviours["refill"] = says({"refill": "5"})
    shop.panel.behaviours["refill_status"] = says({"status": "Completed"})
    ann, bob = token(shop, subject="ann"), token(shop, subject="bob")
    order = placed(shop, ann)
    by_page = page(shop, ann, {"action": "refill", "order": order}).json["refill"]
    by_program = page(shop, shop.key, {"action": "refill", "order": order}).json["refill"]
    own = page(shop, shop.key, {"action": "refill", "order": placed(shop, shop.key)}).json["refill"]

    nobodys = page(shop, bob, {"action": "refill_status", "refill": 1_000_001})
    for refill in (by_page, by_program, own):
        assert _same(page(shop, bob, {"action": "refill_status", "refill": refill}), nobodys)
    for refill in (by_page, by_program):
        assert page(shop, ann, {"action": "refill_status", "refill": refill}).json["status"] == "completed"
    assert _same(page(shop, ann, {"action": "refill_status", "refill": own}), nobodys)


def test_an_idempotency_key_of_another_is_neither_learnt_nor_replayed_nor_taken(shop: World) -> None:
    keyed = {**ADD, "idempotency_key": "guess"}
    ann, bob, bare = token(shop, subject="ann"), token(shop, subject="bob"), token(shop)
    first = page(shop, ann, keyed)
    for key in (bob, bare, shop.key):
        assert listed(shop, key, idempotency_key="guess") == []
        answer = page(shop, key, {**keyed, "quantity": 200})  # not 422: that would tell that there was an order
        assert answer.status == 200
        assert "Idempotent-Replayed" not in answer.headers
        assert listed(shop, key, idempotency_key="guess") == [answer.json["order"]] != [first.json["order"]]
    again = page(shop, token(shop, subject="ann"), keyed)
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(shop.panel.purchases) == 4


def test_an_order_like_anothers_is_not_taken_for_it(shop: World) -> None:
    shop.registry.change_tenant("shop", partial(replace, dedupe=120))
    ann, bob = token(shop, subject="ann"), token(shop, subject="bob")
    assert placed(shop, ann) == placed(shop, token(shop, subject="ann"))
    assert len({placed(shop, key) for key in (ann, bob, token(shop), shop.key)}) == 4


def test_a_key_makes_one_order_though_the_page_has_a_new_token(shop: World) -> None:
    keyed = {**ADD, "idempotency_key": "cart-1"}
    shop.panel.behaviours["add"] = buys_and_loses_the_answer
    old = token(shop, ttl=60)
    first = page(shop, old, keyed)
    assert first.status == 202
    shop.time.sleep(60)
    assert refused(page(shop, old, keyed)) == (401, "invalid_api_key")
    new = token(shop)
    again = page(shop, new, keyed)
    assert (again.status, again.json) == (first.status, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert refused(page(shop, new, {**keyed, "quantity": 200})) == (422, "idempotency_key_reused")
    assert len(shop.panel.purchases) == 1

    assert listed(shop, new) == listed(shop, new, idempotency_key="cart-1") == [], "whose it is, it need not know"
    assert refused(page(shop, new, {"action": "status", "order": first.json["order"]})) == (404, "order_not_found")
    other_programs = token(shop, client(shop))
    assert "Idempotent-Replayed" not in page(shop, other_programs, keyed).headers


def test_an_order_of_the_same_page_is_taken_for_it_though_the_token_is_new(shop: World) -> None:
    shop.registry.change_tenant("shop", partial(replace, dedupe=120))
    assert placed(shop, token(shop)) == placed(shop, token(shop))
    placed(shop, token(shop, client(shop)))
    assert len(shop.panel.purchases) == 2


def test_pages_of_its_orders(shop: World) -> None:
    ann = token(shop, subject="ann")
    orders = []
    for key in (ann, shop.key, ann, token(shop), ann):
        order = placed(shop, key)
        if key is ann:
            orders.append(order)
        shop.time.sleep(1)
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        answer = page(shop, ann, {"action": "orders", "limit": 1, **cursor}).json
        seen += [row["order"] for row in answer["orders"]]
        if answer["next"] is None:
            break
        cursor = {"cursor": answer["next"]}
    assert seen == orders[::-1]
    assert listed(shop, ann, since="2027-01-15T08:00:03Z") == orders[:1:-1]


def test_others_orders_do_not_stand_before_its_own(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.gateway._LOOKED_AT", 1)
    ann = token(shop, subject="ann")
    order = placed(shop, ann)
    shop.time.sleep(1)
    placed(shop, shop.key)
    assert listed(shop, ann) == [order]


# -- prices ----------------------------------------------------------------------------------------------------------


def _names(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for inner in value for name in _names(inner)}
    if isinstance(value, dict):
        return set(value) | {name for inner in value.values() for name in _names(inner)}
    return set()


def _everything(world: World, key: str) -> list[Answered]:
    """Return every answer in which a price could stand."""
    keyed = {**ADD, "idempotency_key": "k"}
    first = page(world, key, keyed)
    order = first.json["order"]
    world.panel.behaviours["add"] = buys_and_loses_the_answer
    answers = [first, page(world, key, keyed), page(world, key, ADD), page(world, key, {"action": "services"})]
    answers += [page(world, key, {"action": "status", **asked}) for asked in ({"order": order}, {"orders": [order]})]
    answers += [page(world, key, {"action": "orders"})]
    assert {answer.status for answer in answers} == {200, 202}
    return answers


def test_without_prices_no_answer_has_one(shop: World) -> None:
    for answer in _everything(shop, token(shop)):
        assert not _names(answer.json) & SEES_NO_PRICE
        assert not any(figure in answer.text for figure in ("0.99", CHARGE, "0.9,", '"0.9"'))


def test_with_prices_they_are_the_tenants(shop: World) -> None:
    child = token(shop, prices=True, actions=[*ALL, "balance"])
    shown = {name for answer in _everything(shop, child) for name in _names(answer.json)}
    assert shown & SEES_NO_PRICE == {"charge", "charged", "rate"}
    assert page(shop, child, {"action": "services"}).json[0]["rate"] == "0.99"
    assert page(shop, child, {"action": "balance"}).json == {"balance": 99.802, "currency": "USD"}


def test_a_price_cannot_be_tried_out(shop: World) -> None:
    answer = page(shop, token(shop), {**ADD, "max_charge": "0.01"})
    assert refused(answer) == (403, "forbidden")
    assert refused(page(shop, token(shop, prices=True), {**ADD, "max_charge": "0.01"})) == (409, "price_changed")


def test_an_etag_names_what_is_shown(shop: World) -> None:
    keys = (shop.key, token(shop), token(shop, prices=True), token(shop, services=[1001]))
    etags = [page(shop, key, {"action": "services"}).headers["ETag"] for key in keys]
    assert etags[0] == etags[2]
    assert len(set(etags)) == 3


def test_an_etag_tells_no_price_to_who_sees_none(shop: World) -> None:
    def etag(key: str) -> str:
        return page(shop, key, {"action": "services"}).headers["ETag"]

    dear = shop.add_tenant(replace(SHOP, id="dear", markup=Decimal("0.137")))
    mine, dears = token(shop), token(shop, dear)
    before = etag(mine)
    assert etag(dears) == before
    assert etag(shop.key) != etag(dear)
    shop.parts.catalog.sync("smosale", [replace(FOLLOWERS, rate=Decimal(7)), COMMENTS])
    assert etag(mine) == before
    shop.parts.catalog.sync("smosale", [replace(FOLLOWERS, max=9999), COMMENTS])
    assert etag(mine) == etag(dears) != before


# -- origins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [OTHER_PAGE, None, "null", "https://shop.example.evil.test", "http://shop.example"])
def test_403_from_elsewhere_than_its_page(shop: World, origin: str | None) -> None:
    child = token(shop, origin=PAGE)
    assert refused(page(shop, child, ADD, origin=origin)) == (403, "forbidden")
    assert not shop.panel.purchases
    placed(shop, child)


def test_403_a_page_that_its_tenant_lists_no_more(shop: World) -> None:
    child = token(shop, origin=PAGE)
    shop.registry.change_tenant("shop", partial(replace, origins=frozenset({OTHER_PAGE})))
    answer = page(shop, child, ADD)
    assert refused(answer) == (403, "forbidden")
    assert "Access-Control-Allow-Origin" not in answer.headers


def _throttled(shop: World) -> Answered:
    answers = [page(shop, shop.key, {"action": "balance"}) for _ in range(21)]
    return answers[-1]


def _unreachable(shop: World) -> Answered:
    shop.panel.behaviours["add"] = cannot_be_reached
    return page(shop, shop.key, ADD)


# Each way to be told no, or yes: what a page needs to read it, whatever it is.
ANSWERS: Mapping[str, Callable[[World], Answered]] = {
    "200": lambda shop: page(shop, shop.key, {"action": "balance"}),
    "304": lambda shop: page(
        shop,
        shop.key,
        {"action": "services"},
        headers={"if-none-match": page(shop, shop.key, {"action": "services"}).headers["ETag"]},
    ),
    "400": lambda shop: page(shop, shop.key, {"action": "nonsense"}),
    "400 no JSON": lambda shop: page(shop, shop.key, {}, body=b"{"),
    "401": lambda shop: page(shop, "x", ADD),
    "401 token": lambda shop: page(shop, new_browser_token("shop"), ADD),
    "402": lambda shop: page(shop, token(shop, max_charge=0), ADD),
    "403 action": lambda shop: page(shop, token(shop), {"action": "usage"}),
    "403 address": lambda shop: page(shop, client(shop, networks=["198.51.100.0/24"]), ADD),
    "403 another page's token": lambda shop: page(shop, token(shop, origin=OTHER_PAGE), ADD),
    "404": lambda shop: page(shop, shop.key, {"action": "status", "order": 1_000_001}),
    "413": lambda shop: page(shop, shop.key, {}, body=b"x" * 300_000),
    "415": lambda shop: page(shop, shop.key, ADD, headers={"content-type": "text/plain"}),
    "422": lambda shop: page(shop, shop.key, {**ADD, "link": "a b"}),
    "429": _throttled,
    "503": _unreachable,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_listed_page_reads_every_answer(shop: World, name: str) -> None:
    answer = ANSWERS[name](shop)
    assert str(answer.status) == name.partition(" ")[0]
    headers = answer.headers
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in headers
    assert set(headers["Access-Control-Expose-Headers"].split(", ")) == {
        "X-Request-Id",
        "ETag",
        "Link",
        "Idempotent-Replayed",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
    }


LOOK_ALIKES = (
    "null",
    "",
    "https://shop.example.evil.test",
    "https://evil-shop.example",
    "https://shop.example:8443",
    "https://shop.example/",
    "https://SHOP.example",
    "http://shop.example",
    "https://shop.exampl",
    "https://shop.example, https://evil.example",
    "*",
)


@pytest.mark.parametrize("origin", LOOK_ALIKES)
@pytest.mark.parametrize("fields", [{"action": "balance"}, {"action": "nonsense"}])
def test_no_other_page_reads_any(shop: World, origin: str, fields: dict[str, Any]) -> None:
    for key in (shop.key, "x"):
        answer = page(shop, key, fields, origin=origin)
        assert answer.status in (401, 403)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"
    asked = _preflight(shop, origin)
    assert asked.status == 403
    assert "Access-Control-Allow-Origin" not in asked.headers


def _preflight(world: World, origin: str) -> Answered:
    return Answered.of(preflight(incoming(world, method="OPTIONS", headers={"origin": origin}), world.parts.gateway))


def test_a_page_of_another_tenant_reads_no_answer_about_this_one(shop: World) -> None:
    stranger = "https://stranger.example"
    shop.add_tenant(Tenant(id="stranger", origins=frozenset({stranger})))
    assert _preflight(shop, stranger).status == 204
    answers = [page(shop, shop.key, {"action": "balance"}, origin=stranger) for _ in range(21)]
    assert {answer.status for answer in answers} == {403, 429}
    assert not any("Access-Control-Allow-Origin" in answer.headers for answer in answers)


def test_a_preflight_is_granted_to_pages_of_active_tenants(shop: World) -> None:
    granted = _preflight(shop, PAGE)
    assert (granted.status, granted.text) == (204, "")
    assert granted.headers["Access-Control-Allow-Origin"] == PAGE
    assert granted.headers["Vary"] == "Origin"
    assert granted.headers["Access-Control-Allow-Methods"] == "POST"
    assert {"authorization", "content-type", "idempotency-key"} <= set(
        granted.headers["Access-Control-Allow-Headers"].lower().split(", ")
    )
    shop.registry.set_active("shop", active=False)
    assert _preflight(shop, PAGE).status == 403
