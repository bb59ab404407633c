"""An order is asked for with the key of the account that bought it, whatever keys its tenant was given since."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib.aws.audit import findings
from chalicelib.aws.registry import Missing
from chalicelib.aws.table import Write
from chalicelib.clock import MINUTE, SECOND
from chalicelib.errors import AnswerLost
from chalicelib.jobs import needing_decision, settle_orders, sweep_orders
from chalicelib.model import Account, Funding, OrderState, Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.wiring import Parts
from sandbox.faults import ActiveFault
from sandbox.orders import Stage
from tests.api.http import v2, v3
from tests.gateway.test_batches import PANELS, order
from tests.gateway.test_subscriptions import status as subscription
from tests.gateway.test_subscriptions import subscribe
from tests.market import Market
from tests.settling import Shop
from tests.world import LINK

CREDIT = 1000 * SECOND


def bought_by(market: Market, slug: str, customer: str) -> list[int]:
    return [one.id for one in market.bought(slug) if one.customer == customer]


def record(market: Market, number: int, tenant: str = "acme") -> Any:
    found = market.parts.orders.get(tenant, number)
    assert found is not None
    return found


def before_and_after(market: Market, slug: str) -> tuple[list[int], list[str]]:
    """Return an order from before the tenant had an own key, one from then, one from after; and the keys that buy."""
    operators = market.panel(slug).keys[0]
    numbers = [order(market, slug, f"{LINK}/1")]
    own = market.give_own_key(slug)
    numbers.append(order(market, slug, f"{LINK}/2"))
    market.registry.set_own_key("acme", slug, is_used=False)
    numbers.append(order(market, slug, f"{LINK}/3"))
    return numbers, [operators, own, operators]


# -- buying ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", PANELS)
def test_new_orders_are_bought_with_the_account_that_the_tenant_has_then(market: Market, slug: str) -> None:
    numbers, keys = before_and_after(market, slug)
    assert market.keys_heard(slug, "add") == keys
    assert [one.customer for one in market.bought(slug)] == ["", "acme", ""]
    accounts = [Account(slug), Account(slug, "acme"), Account(slug)]
    assert [record(market, number).account for number in numbers] == accounts
    bound = {account: [one.order for one in market.parts.orders.bound(account)] for account in accounts}
    assert bound == {Account(slug): [numbers[2], numbers[0]], Account(slug, "acme"): [numbers[1]]}


def test_an_own_key_buys_for_its_tenant_and_for_nobody_else(market: Market) -> None:
    other, third = (market.add_tenant(Tenant(id=name, interval=1, burst=100)) for name in ("other", "third"))
    keys = [market.give_own_key("smosale"), market.give_own_key("smosale", "other"), market.panel("smosale").keys[0]]
    for key in (market.key, other, third):
        order(market, key=key)
    assert market.keys_heard("smosale", "add") == keys
    order(market, "smmrich")
    assert market.keys_heard("smmrich", "add") == market.panel("smmrich").keys


@pytest.mark.parametrize("trouble", ["rejected", "missing", "no funds"])
def test_a_tenant_with_an_own_key_never_falls_back_on_the_operators(market: Market, trouble: str) -> None:
    own = market.give_own_key("smosale", balance=0 if trouble == "no funds" else 100)
    if trouble == "rejected":
        market.panel("smosale").customers["acme"].keys = ["another"]
    elif trouble == "missing":
        name = market.parts.settings.provider_secret(Account("smosale", "acme"))
        market.secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    service = market.registry.provider("smosale").global_id(1)
    answer = v3(market, {"action": "add", "service": service, "link": LINK, "quantity": 100})
    assert (answer.status, answer.json["code"]) == (503, "service_unavailable")
    assert "retry-after" in {name.lower() for name in answer.headers}
    assert market.keys_heard("smosale", "add") == ([] if trouble == "missing" else [own])
    assert market.bought("smosale") == []
    assert market.money() == (CREDIT, 0)


def test_an_order_on_its_way_is_bought_as_it_was_accepted(market: Market) -> None:
    """The tenant gets an own key between the order's acceptance and its first byte."""
    operators = market.panel("smosale").keys[0]

    class Late:
        def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
            market.give_own_key("smosale")
            return market.network.send(url, request, deadline=deadline, send_by=send_by)

    number = order(replace(market, parts=market.twin(sender=Late())))
    assert market.keys_heard("smosale", "add") == [operators]
    assert record(market, number).account == Account("smosale")


def test_a_replay_is_the_first_order_whatever_key_its_tenant_has_now(market: Market) -> None:
    service = market.registry.provider("smosale").global_id(1)
    wanted = {"action": "add", "service": service, "link": LINK, "quantity": 100, "idempotency_key": "once"}
    first = v3(market, wanted).json
    own = market.give_own_key("smosale")
    assert v3(market, wanted).json == first
    assert own not in market.keys_heard("smosale", "add")
    assert record(market, first["order"]).account == Account("smosale")


def test_the_pace_is_the_panels_and_shared_by_its_accounts(market: Market) -> None:
    other = market.add_tenant(Tenant(id="other", interval=1, burst=100))
    market.give_own_key("mysticsmm", "other")
    began = market.time.at
    for key in (market.key, other):
        service = market.service("mysticsmm", "Default")
        fields = {"action": "add", "service": service, "link": LINK, "quantity": 500}
        assert v3(market, fields, headers={"authorization": f"Bearer {key}"}).status == 200
    assert market.time.at - began >= SECOND


# -- asking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", PANELS)
def test_a_status_is_asked_with_the_key_that_bought(market: Market, slug: str) -> None:
    numbers, keys = before_and_after(market, slug)
    rows = v3(market, {"action": "status", "orders": numbers}).json["orders"]
    assert [(row["order"], row["stale"]) for row in rows] == [(number, False) for number in numbers]
    assert set(market.keys_heard(slug, "status")) == set(keys)
    for number, key in zip(numbers, keys, strict=True):
        market.time.at += 16 * SECOND
        assert v3(market, {"action": "status", "order": number}).json["stale"] is False
        assert market.keys_heard(slug, "status")[-1] == key


@pytest.mark.parametrize("action", ["refill", "cancel"])
def test_requests_go_to_the_account_that_bought(market: Market, action: str) -> None:
    numbers, keys = before_and_after(market, "smosale")
    if action == "refill":
        for number in numbers:
            market.move("smosale", number, Stage.COMPLETED)
    for number, key in zip(numbers, keys, strict=True):
        answer = v3(market, {"action": action, "order": number})
        assert answer.status == 200, answer.text
        assert market.keys_heard("smosale", action)[-1] == key
    rows = v3(market, {"action": action, "orders": numbers}).json["orders"]
    assert [row["order"] for row in rows] == numbers
    assert not [row for row in rows if "error" in row]
    assert sorted(market.keys_heard("smosale", action)[-2:]) == sorted(set(keys))


def test_refills_are_followed_with_the_key_that_bought(market: Market) -> None:
    numbers, keys = before_and_after(market, "smosale")
    for number in numbers:
        market.move("smosale", number, Stage.COMPLETED)
    refills = [v3(market, {"action": "refill", "order": number}).json["refill"] for number in numbers]
    market.time.at += MINUTE
    for refill, key in zip(refills, keys, strict=True):
        assert v3(market, {"action": "refill_status", "refill": refill}).json["status"] == "completed"
        assert market.keys_heard("smosale", "refill_status")[-1] == key
    assert {row["status"] for row in v3(market, {"action": "refill_status", "refills": refills}).json["refills"]} == {
        "completed"
    }


def test_an_own_key_that_fails_leaves_its_orders_stale_and_the_others_be(market: Market) -> None:
    numbers, _ = before_and_after(market, "smosale")
    market.panel("smosale").customers["acme"].keys = []
    market.time.at += 16 * SECOND
    rows = v3(market, {"action": "status", "orders": numbers}).json["orders"]
    assert [row["stale"] for row in rows] == [False, True, False]
    answer = v3(market, {"action": "cancel", "order": numbers[1]})
    assert (answer.status, answer.json["code"]) == (503, "service_unavailable")
    assert market.keys_heard("smosale", "cancel") == ["own-key-of-acme-at-smosale"]


@pytest.mark.parametrize("owns", [False, True])
def test_the_balance_of_a_tenant_funded_at_its_provider_is_that_of_its_account(market: Market, *, owns: bool) -> None:
    key = market.add_tenant(
        Tenant(id="direct", funding=Funding.PROVIDER, providers=frozenset({"smosale"}), interval=1, burst=9), credit=0
    )
    market.panel("smosale").set_funds(Decimal(77))
    if owns:
        market.give_own_key("smosale", "direct", balance=5)
    answer = v3(market, {"action": "balance"}, headers={"authorization": f"Bearer {key}"}).json
    assert answer == {"balance": 5 if owns else 77, "currency": "USD"}


def test_the_wallet_pays_for_orders_of_an_own_account_too(market: Market) -> None:
    market.give_own_key("smosale")
    number = order(market, link=f"{LINK}/fail")
    assert market.money() == (CREDIT - record(market, number).charge, 0)
    market.time.at += MINUTE
    assert v2(market, {"action": "status", "order": number}).json["status"] == "Canceled"
    assert market.money() == (CREDIT, 0)


def test_the_orders_of_a_subscription_are_read_with_its_key(market: Market) -> None:
    own = market.give_own_key("smosale")
    number = subscribe(market, posts=2)
    market.registry.set_own_key("acme", "smosale", is_used=False)
    market.time.at += 2 * MINUTE
    children = subscription(market, number)["orders"]
    assert len(children) == 2
    assert set(market.keys_heard("smosale", "status")) == {own}
    assert {record(market, child).account for child in children} == {Account("smosale", "acme")}
    market.time.at += MINUTE
    assert v3(market, {"action": "status", "orders": children}).json["orders"][0]["stale"] is False
    assert set(market.keys_heard("smosale", "status")) == {own}


# -- the schedules -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(market: Market) -> Iterator[Shop]:
    """Return a shop whose tenant orders with a key of its own, where the operator's key is exclusive."""
    shop = Shop.of(market, "smosale", "smmafrica")
    for slug in ("smosale", "smmafrica"):
        market.give_own_key(slug)
    yield shop
    assert list(findings(market.parts.table)) == []


def test_refunds_of_an_own_account_need_no_status(shop: Shop) -> None:
    own = shop.buy("smosale", link=f"{LINK}/fail")
    shop.market.registry.set_own_key("acme", "smosale", is_used=False)
    shop.wait(2)
    assert shop.look(own).refunded == own.charge
    assert set(shop.market.keys_heard("smosale", "status")) == {"own-key-of-acme-at-smosale"}
    assert shop.market.money() == (CREDIT, 0)


def test_a_pending_number_is_confirmed_with_the_key_that_bought(shop: Shop) -> None:
    shop.market.panel("smmafrica").faults.append(ActiveFault("pending", action="add", count=1))
    own = shop.buy("smmafrica")
    assert own.state is OrderState.UNKNOWN
    shop.market.registry.set_own_key("acme", "smmafrica", is_used=False)
    shop.wait()
    assert shop.look(own).state is OrderState.PLACED
    assert shop.market.keys_heard("smmafrica", "status")[0] == "own-key-of-acme-at-smmafrica"


def test_a_lost_order_of_an_own_account_is_looked_for_there_and_left_to_the_operator(shop: Shop) -> None:
    """Nobody said that the tenant does not order with its key elsewhere, whatever is said of the operator's."""
    shop.buy("smosale")
    lost = shop.buy("smosale", 1234, lost="after")
    shop.wait(15)
    found = shop.look(lost)
    assert found.state is OrderState.UNKNOWN
    number = bought_by(shop.market, "smosale", "acme")[-1]
    assert any(f"others may have placed them: {number}" in sentence for sentence in found.evidence)
    assert [one.id for one in needing_decision(shop.market.parts)] == [lost.id]
    assert not list(shop.market.parts.following.accounts.marks(Account("smosale", "acme")))


def test_orders_of_an_own_account_say_nothing_of_lost_ones_of_the_operators(shop: Shop) -> None:
    other = shop.market.add_tenant(Tenant(id="other", interval=1, burst=100))
    shop.buy("smosale", key=other)
    shop.wait()
    bought = shop.buy("smosale", 1234, lost="after", key=other)
    gone = shop.buy("smosale", 777, lost="before", key=other)
    shop.buy("smosale", 777)
    unsettled = shop.buy("smosale", 1234, lost="after")
    shop.wait(15)
    placed = shop.look(bought)
    assert placed.state is OrderState.PLACED
    assert shop.market.panel("smosale").orders[placed.provider_order or 0].customer == ""
    assert shop.look(gone).state is OrderState.NOT_PLACED
    assert shop.look(unsettled).state is OrderState.UNKNOWN


def test_a_sender_that_died_is_noticed_whoever_the_account_is(shop: Shop) -> None:
    class Dying:
        def send(self, *_: object, **__: object) -> Reply:
            raise KeyboardInterrupt

    market, parts = shop.market, shop.market.parts
    with pytest.raises(KeyboardInterrupt):
        v3(
            replace(market, parts=market.twin(sender=Dying())),
            {"action": "add", "service": shop.service("smosale"), "link": LINK, "quantity": 100},
        )
    [sending] = parts.orders.unsettled(Account("smosale", "acme"))
    assert sending.state is OrderState.SENDING
    market.time.at += 3 * MINUTE
    assert sweep_orders(parts) == {"done": 1, "failed": 0}
    assert shop.look(sending).state is OrderState.UNKNOWN


def test_an_account_that_fails_keeps_no_other_from_its_turn(shop: Shop) -> None:
    other = shop.market.add_tenant(Tenant(id="other", interval=1, burst=100))
    numbers = [shop.buy("smosale", link=f"{LINK}/fail"), shop.buy("smosale", link=f"{LINK}/fail/2", key=other)]
    shop.market.panel("smosale").customers["acme"].keys = []
    shop.wait(2)
    assert [shop.look(one).refunded for one in numbers] == [0, numbers[1].charge]


def test_accounts_of_a_panel_that_takes_no_batches_share_its_calls(market: Market) -> None:
    keys = {"acme": market.key}
    for name in ("beta", "gamma", "delta"):
        keys[name] = market.add_tenant(Tenant(id=name, interval=1, burst=100))
    for tenant, key in keys.items():
        market.give_own_key("mysticsmm", tenant)
        for number in range(5):
            order(market, "mysticsmm", f"{LINK}/{tenant}/{number}", key=key)
    market.time.at += 5 * MINUTE
    settle_orders(market.parts)
    assert sorted(market.keys_heard("mysticsmm", "status")) == sorted(
        f"own-key-of-{name}-at-mysticsmm" for name in keys
    )


def test_a_slow_account_leaves_the_others_their_share_of_the_time(shop: Shop) -> None:
    market = shop.market
    other = market.add_tenant(Tenant(id="other", interval=1, burst=100))
    own = shop.buy("smmafrica", link=f"{LINK}/fail")
    for _ in range(2):
        shop.buy("smmafrica", key=other)
    market.panel("smmafrica").faults.append(ActiveFault("pending", action="add", count=5))
    pending = [shop.buy("smmafrica", key=other) for _ in range(5)]

    class Slow:
        def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
            reply = market.network.send(url, request, deadline=deadline, send_by=send_by)
            market.time.sleep(
                9 if market.keys_heard("smmafrica", "status")[-1:] == market.panel("smmafrica").keys else 0
            )
            return reply

    for one in pending:
        market.panel("smmafrica").orders[one.pending_order or 0].shown = {"status": "unknown"}
    market.time.at = (market.time.at // (2 * MINUTE) + 1) * 2 * MINUTE  # the operator's, slow account comes first
    settle_orders(market.twin(sender=Slow()))
    assert len(market.keys_heard("smmafrica", "status")) >= 4
    assert shop.look(own).refunded == own.charge


def accounts_with_an_order(market: Market, count: int) -> list[str]:
    """Return the keys of so many accounts at one panel, the operator's first; each has an open order."""
    link = f"{LINK}/slowstart"
    order(market, link=link)
    keys = [market.panel("smosale").keys[0]]
    for tenant in (f"own-{number}" for number in range(1, count)):
        client_key = market.add_tenant(Tenant(id=tenant, interval=1, burst=100))
        keys.append(market.give_own_key("smosale", tenant))
        order(market, link=link, key=client_key)
    return keys


def elsewhere(market: Market, seconds: int = 0) -> Parts:
    """Return the parts of another container, which has read no key yet; a call to a panel takes it so long."""

    class Slow:
        def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
            market.time.sleep(min(seconds, max(0, deadline - market.time.at / SECOND)))
            if market.time.at >= deadline * SECOND:
                raise AnswerLost("timed out")
            return market.network.send(url, request, deadline=deadline, send_by=send_by)

    return market.twin(sender=Slow())


def test_however_many_accounts_a_panel_has_their_keys_are_read(market: Market) -> None:
    keys = accounts_with_an_order(market, 8)
    schedule = elsewhere(market)
    market.time.at += 2 * MINUTE
    settle_orders(schedule)
    assert sorted(market.keys_heard("smosale", "status")) == sorted(keys)
    new = "pk-canary-the-new-one"
    market.panel("smosale").keys[:] = [new]
    market.put_key(Account("smosale"), new, token="2" * 32)
    market.time.at += 2 * MINUTE
    settle_orders(schedule)
    assert sorted(market.keys_heard("smosale", "status")[8:]) == sorted([new, *keys[1:]])


def test_a_slow_panel_answers_a_few_of_its_accounts_a_minute_and_each_in_its_turn(market: Market) -> None:
    keys = accounts_with_an_order(market, 8)
    schedule, heard = elsewhere(market, seconds=7), list[set[str]]()
    market.time.at += MINUTE
    for _ in keys:
        market.time.at = (market.time.at // MINUTE + 1) * MINUTE
        before = len(market.keys_heard("smosale", "status"))
        settle_orders(schedule)
        heard.append(set(market.keys_heard("smosale", "status")[before:]))
    assert set().union(*heard) == set(keys)
    assert sum(map(len, heard)) >= 2 * len(keys)


# -- the registry ------------------------------------------------------------------------------------------------------


def test_an_own_key_is_given_and_taken_twice_as_once(market: Market) -> None:
    registry = market.registry
    for is_used in (True, True, False, False, True):
        registry.set_own_key("acme", "smosale", is_used=is_used)
        assert registry.tenant("acme").own_keys == (frozenset({"smosale"}) if is_used else frozenset())
    registry.set_own_key("acme", "smmrich", is_used=True)
    assert registry.tenant("acme").own_keys == {"smosale", "smmrich"}
    own = [account for account in market.parts.directory.every_account() if account.tenant]
    assert own == [Account("smmrich", "acme"), Account("smosale", "acme")]
    assert {provider.slug for provider in registry.providers()} == set(PANELS)
    assert set(market.parts.directory.providers()) == set(PANELS)


@pytest.mark.parametrize(("tenant", "slug"), [("nobody", "smosale"), ("acme", "nowhere")])
def test_an_own_key_needs_a_tenant_and_a_provider(market: Market, tenant: str, slug: str) -> None:
    with pytest.raises(Missing):
        market.registry.set_own_key(tenant, slug, is_used=True)
    assert not [account for account in market.parts.directory.every_account() if account.tenant]


# -- the audit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["drop", "name another", "one too many"])
def test_the_audit_looks_for_bindings_under_the_account(market: Market, spoil: str) -> None:
    numbers, _ = before_and_after(market, "smosale")
    table, own = market.parts.table, record(market, numbers[1])
    assert list(findings(table)) == []
    key = {"pk": {"S": "P#smosale#acme"}, "sk": {"S": f"BOUND#{own.provider_order:020}"}}
    if spoil == "one too many":
        key["sk"]["S"] = f"BOUND#{7:020}"
        table.write(Write("P#smosale#acme", key["sk"]["S"], put={"tenant": "acme", "order": numbers[0]}))
    elif spoil == "drop":
        table.client.delete_item(TableName=table.name, Key=key)
    else:
        table.client.update_item(
            TableName=table.name,
            Key=key,
            UpdateExpression="SET #order = :other",
            ExpressionAttributeNames={"#order": "order"},
            ExpressionAttributeValues={":other": {"N": str(numbers[0])}},
        )
    assert {(one.pk, one.sk) for one in findings(table)} >= {("P#smosale#acme", key["sk"]["S"])}
