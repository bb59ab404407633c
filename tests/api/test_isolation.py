"""Another tenant's things look like things that never were (contract 4 and 8.6, reliability.md 50).

``birch`` asks for everything that ``acme`` has, under every name that it could have come by. Each answer must be, to
the byte, the one that it gets for a name that nobody has; nothing of anybody else may change, and no panel may hear of
it. Then both use one container at the same time, as if Lambda gave it to one after the other, only closer.
"""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from chalicelib import money
from chalicelib.actions import Action
from chalicelib.clock import MINUTE, SECOND
from chalicelib.commands import COMMANDS
from chalicelib.keys import _checksum, parse_client_key
from chalicelib.model import OrderState, Tenant
from chalicelib.panels.dialect import Reply
from chalicelib.testmode import Offer
from sandbox.faults import ActiveFault
from sandbox.orders import Stage
from tests.api.http import Answered, v2, v3
from tests.market import Market
from tests.world import LINK, PretendPanel, World

PANEL, OTHER_PANEL = "smosale", "smmrich"
TEST_SERVICE = 1000 * Offer.DELIVERED
KEY_OF_ACME, KEY_OF_NOBODY = "key-of-acme", "key-of-none"
THINGS = {
    "with its own key",
    "a test's",
    "completed",
    "refill",
    "subscription",
    "child",
    "keyed",
    "live",
    "unknown",
    "a customer's",
    "provider's number",
}
# What takes the id of an order or a refill, and in which fields.
BY_ID: Mapping[Action, tuple[str, str]] = {
    Action.STATUS: ("order", "orders"),
    Action.REFILL: ("order", "orders"),
    Action.CANCEL: ("order", "orders"),
    Action.REFILL_STATUS: ("refill", "refills"),
}
# What takes none; each has its test below.
WITHOUT_IDS = {Action.BALANCE, Action.SERVICES, Action.ADD, Action.ORDERS, Action.TOKEN}


@dataclass
class Neighbours:
    """Two tenants of one gateway; ``things`` are the ids that ``acme`` has, by what they are."""

    market: Market
    birch: str
    birch_page: str
    acme_page: str
    birch_test: str
    acme_test: str
    things: dict[str, int] = field(default_factory=dict)
    calls: Iterator[int] = field(default_factory=itertools.count)

    @property
    def followers(self) -> int:
        """The public id of a service that may be refilled and canceled."""
        return 1000 + self.market.registry.provider(PANEL).number

    @property
    def order(self) -> dict[str, Any]:
        return {"action": "add", "service": self.followers, "link": LINK, "quantity": 1000}

    def v3(self, fields: Mapping[str, Any], /, key: str | None = None, **headers: str) -> Answered:
        """Call v3 as ``birch``, or with another key."""
        headers = {"authorization": f"Bearer {key or self.birch}", **headers}
        return v3(self.market, fields, headers=headers, address=self._address())

    def v2(self, fields: Mapping[str, Any], /, key: str | None = None) -> Answered:
        """Call v2 as ``birch``, or with another key."""
        fields = {"key": key or self.birch, **fields}
        return v2(self.market, fields, address=self._address())

    def page(self, fields: Mapping[str, Any], /) -> Answered:
        """Call v3 with a browser token of ``birch``, for a customer who is called as one of ``acme``'s is."""
        return self.v3(fields, self.birch_page)

    def test(self, fields: Mapping[str, Any], /) -> Answered:
        """Call v3 with a key of ``birch`` for test mode."""
        service = {"service": TEST_SERVICE} if "service" in fields else {}
        return self.v3({**fields, **service}, self.birch_test)

    def _address(self) -> str:
        """Return where a call comes from: each from elsewhere, for whoever guesses is slowed down by address."""
        return f"198.51.{next(self.calls) // 250}.{next(self.calls) % 250}"

    def acme(self, fields: Mapping[str, Any], /, **headers: str) -> Any:
        """Return what ``acme`` gets, which must be good."""
        answer = self.v3(fields, self.market.key, **headers)
        assert answer.status in (200, 202), answer.text
        return answer.json

    def elsewhere(self) -> list[str]:
        """Return all that is stored, but what is ``birch``'s own, and what its addresses were wrong with."""
        table = self.market.parts.table
        pages = table.client.get_paginator("scan").paginate(TableName=table.name, ConsistentRead=True)
        items = (item for page in pages for item in page["Items"])
        return sorted(
            str(item) for item in items if not item["pk"]["S"].startswith(("T#birch", "T#test:birch", "ADDRESS#"))
        )

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Expect that nothing changes elsewhere, and that nobody goes to a panel."""
        before, tries = self.elsewhere(), self.market.network.tries
        yield
        assert self.elsewhere() == before
        assert self.market.network.tries == tries

    def same(self, call: Callable[[Any], Answered], theirs: object, nobodys: object, why: str = "") -> Answered:
        """Expect one answer for what is ``acme``'s and for what is nobody's; return it."""
        answer = call(theirs)
        assert seen(answer, theirs) == seen(call(nobodys), nobodys), why
        return answer


def seen(answer: Answered, *names: object) -> tuple[int, dict[str, str], str]:
    """Return all of an answer but what differs from call to call: its own id, and what is left of the limit."""
    headers = {name: value for name, value in answer.headers.items() if name != "X-Request-Id"}
    if "RateLimit" in headers:
        headers["RateLimit"] = re.sub(r"r=\d+;t=\d+", "*", headers["RateLimit"])
    text = answer.text.replace(answer.headers["X-Request-Id"], "*")
    for name in names:
        text = text.replace(str(name), "*")
    return answer.status, headers, text


def nobodys(number: int) -> int:
    """Return an id of the same length that nobody has: those that are given away are drawn at random."""
    return number - 1 if number % 10 else number + 1


@pytest.fixture
def here(new_stage: Callable[[], str], dynamodb: Any, secrets_manager: Any) -> Neighbours:
    """Return two tenants, of whom ``acme`` has something of everything."""
    market = Market.new(new_stage(), dynamodb, secrets_manager, slugs=(PANEL, OTHER_PANEL))
    birch = Tenant(id="birch", interval=1, burst=1000, providers=frozenset({PANEL}))
    key = market.add_tenant(birch)
    birch_test, acme_test = (market.clients.create(name, test=True).key for name in ("birch", "acme"))
    neighbours = Neighbours(market, key, _token(market, key), _token(market, market.key), birch_test, acme_test)
    _furnish(neighbours)
    return neighbours


def _token(market: Market, key: str) -> str:
    """Return a browser token for a customer; both tenants know them by the same name."""
    fields = {"action": "token", "actions": sorted({*BY_ID, Action.ORDERS, Action.ADD}), "ttl": 3600, "subject": "ann"}
    return str(v3(market, fields, headers={"authorization": f"Bearer {key}"}).json["token"])


def _furnish(here: Neighbours) -> None:
    market, things = here.market, here.things

    def buy(name: str, **fields: Any) -> int:
        return int(here.acme({**here.order, "link": f"{LINK}/{name}", **fields})["order"])

    things["completed"] = buy("completed")
    market.move(PANEL, things["completed"], Stage.COMPLETED)
    things["refill"] = here.acme({"action": "refill", "order": things["completed"]})["refill"]
    subscription = {"service": market.service(PANEL, "Subscriptions"), "username": "star", "min": 20, "max": 30}
    things["subscription"] = here.acme({"action": "add", **subscription, "delay": 0, "posts": 3})["order"]
    market.time.at += MINUTE
    things["child"] = here.acme({"action": "status", "order": things["subscription"]})["orders"][0]
    things["keyed"] = buy("keyed", idempotency_key=KEY_OF_ACME)
    things["live"] = buy("live")
    market.panel(PANEL).faults.append(ActiveFault(fault="empty", action="add", count=1))
    things["unknown"] = buy("unknown")
    own = 1000 + market.registry.provider(OTHER_PANEL).number
    market.give_own_key(OTHER_PANEL)
    things["with its own key"] = buy("own", service=own)
    things["a test's"] = here.v3({**here.order, "service": TEST_SERVICE}, here.acme_test).json["order"]
    things["a customer's"] = here.v3({**here.order, "link": f"{LINK}/ann"}, here.acme_page).json["order"]
    record, unknown = (market.parts.orders.get("acme", things[name]) for name in ("live", "unknown"))
    assert record is not None
    assert record.provider_order is not None
    assert unknown is not None
    assert unknown.state is OrderState.UNKNOWN
    things["provider's number"] = record.provider_order


# -- ids of orders and refills ---------------------------------------------------------------------------------------


def test_the_matrix_is_whole(here: Neighbours) -> None:
    assert set(here.things) == THINGS
    assert set(COMMANDS) == BY_ID.keys() | WITHOUT_IDS


@pytest.mark.parametrize("way", ["v2", "v3", "page", "test"])
def test_another_tenants_id_is_one_that_nobody_has(here: Neighbours, way: str) -> None:
    face: Callable[..., Answered] = getattr(here, way)
    own = (here.v3 if way == "v2" else face)(here.order).json["order"]
    face({"action": "status", "order": own})  # which is fresh now

    def ask(action: Action, name: str, spelling: str) -> Callable[[int], Answered]:
        return lambda number: face({"action": action, name: spelling.format(number)})

    with here.untouched():
        for (thing, number), (action, (one, many)) in product(here.things.items(), BY_ID.items()):
            lists = ["{}", "{},17", "17, {0} ,{0}"] + [f"{own},{{}}"] * (action is Action.STATUS)
            names = {one: ["{}", " {} "], many: lists}
            if way == "v2" and action is Action.REFILL_STATUS:
                names["order"] = ["{}", "{},17"]
            for name, spelling in ((name, one) for name, some in names.items() for one in some):
                why = f"{action} {name}={spelling} of {thing}"
                answer = here.same(ask(action, name, spelling), number, nobodys(number), why)
                assert ("Refill not found" if "refill" in one else "Incorrect order ID") in answer.text, why
                assert way == "v2" or answer.status == (200 if name == many else 404), why


def test_the_owner_has_all_of_it_meanwhile(here: Neighbours) -> None:
    """If nobody found anything, the matrix would prove nothing."""
    for thing, number in here.things.items():
        field_name, action = ("refill", "refill_status") if thing == "refill" else ("order", "status")
        key = here.acme_test if thing == "a test's" else here.market.key
        answer = here.v3({"action": action, field_name: number}, key)
        assert answer.status == (404 if thing == "provider's number" else 200), thing


# -- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["v3", "page", "test"])
def test_a_list_of_orders_and_its_cursors_are_the_callers_own(here: Neighbours, way: str) -> None:
    face: Callable[..., Answered] = getattr(here, way)
    mine = {face(here.order).json["order"]}
    here.market.time.at += SECOND
    mine.add(face({**here.order, "link": f"{LINK}/later"}).json["order"])

    def listed(**filters: Any) -> Answered:
        return face({"action": "orders", **filters})

    cursors = [here.acme({"action": "orders", "limit": 1})["next"]]
    while cursors[-1] is not None:
        cursors.append(here.acme({"action": "orders", "limit": 1, "cursor": cursors[-1]})["next"])

    with here.untouched():
        assert {row["order"] for row in listed().json["orders"]} == mine
        for status in ("pending", "in_progress", "completed", "unknown", "queued"):
            assert {row["order"] for row in listed(status=status).json["orders"]} <= mine
        here.same(lambda key: listed(idempotency_key=key), KEY_OF_ACME, KEY_OF_NOBODY)
        assert listed(idempotency_key=KEY_OF_ACME).json == {"orders": [], "next": None}
        for created, order in (cursor.split("-") for cursor in cursors[:-1]):

            def after(number: int, at: str = created) -> Answered:
                return listed(cursor=f"{at}-{number}")

            page = here.same(after, int(order), nobodys(int(order)))
            assert {row["order"] for row in page.json["orders"]} <= mine
    assert len(cursors) == len(here.things) - 3  # without the refill, the number at the panel and the test's


def test_what_one_tenant_may_not_order_does_not_exist_for_it(here: Neighbours) -> None:
    narrow = Tenant(id="narrow", interval=1, burst=1000, services=frozenset({here.followers}))
    key = here.market.add_tenant(narrow)
    barred = here.market.service(PANEL, "Subscriptions")
    elsewhere = 1000 + here.market.registry.provider(OTHER_PANEL).number
    here.acme({"action": "add", "service": elsewhere, "link": LINK, "quantity": 1000})

    with_key = {key: (barred, elsewhere), here.birch: (elsewhere,)}
    before = here.market.network.tries
    for caller, services in with_key.items():
        assert not {row["service"] for row in here.v3({"action": "services"}, caller).json} & set(services)
        for face, service in product((here.v2, here.v3), services):

            def order(number: int, face: Callable[..., Answered] = face, caller: str = caller) -> Answered:
                return face({**here.order, "service": number}, caller)

            answer = here.same(order, service, int(f"9{str(service)[1:]}"), f"{service}")
            assert "error" in answer.json
            assert answer.status == (200 if face == here.v2 else 404)
    assert here.market.network.tries == before


def test_balance_and_prices_are_the_callers_own(here: Neighbours) -> None:
    dear = here.market.add_tenant(Tenant(id="dear", interval=1, markup=Decimal("0.5")), credit=7 * SECOND)
    assert here.v3({"action": "balance"}, dear).json["balance"] == 7
    assert here.v2({"action": "balance"}, dear).json["balance"] == "7"
    for face in (here.v2, here.v3):
        ours = {row["service"]: row["rate"] for row in face({"action": "services"}, here.market.key).json}
        theirs = {row["service"]: row["rate"] for row in face({"action": "services"}, dear).json}
        assert {number: Decimal(rate) * 3 / 2 for number, rate in ours.items()} == {
            number: Decimal(rate) for number, rate in theirs.items()
        }
    etag = here.v3({"action": "services"}, here.market.key).headers["ETag"]
    assert here.v3({"action": "services"}, dear, **{"if-none-match": etag}).status == 200


# -- what makes an `add` no second one -------------------------------------------------------------------------------


def _added(here: Neighbours, **fields: Any) -> Callable[[str], Answered]:
    """Return an ``add`` by ``birch`` of which one thing is given later."""
    [name] = [name for name, value in fields.items() if value is ...]
    return lambda value: here.v3({**here.order, **fields, name: value})


def _of_acme(here: Neighbours) -> list[str]:
    return [item for item in here.elsewhere() if "'T#acme'" in item]


def test_another_tenants_idempotency_key_is_free(here: Neighbours) -> None:
    before, bought = _of_acme(here), len(here.market.bought(PANEL))
    call = _added(here, idempotency_key=...)
    theirs, free = call(KEY_OF_ACME), call(KEY_OF_NOBODY)
    assert seen(theirs, theirs.json["order"]) == seen(free, free.json["order"])
    assert "Idempotent-Replayed" not in theirs.headers
    assert theirs.json["order"] not in here.things.values()
    assert len(here.market.bought(PANEL)) == bought + 2
    assert _of_acme(here) == before
    assert here.acme({"action": "orders", "idempotency_key": KEY_OF_ACME})["orders"][0]["order"] == here.things["keyed"]


def test_another_tenants_like_order_and_busy_link_are_nothing_to_us(here: Neighbours) -> None:
    strict: dict[str, Any] = {"interval": 1, "burst": 1000, "dedupe": 600, "refuse_duplicate_link": True}
    ours, theirs = (here.market.add_tenant(Tenant(id=name, **strict)) for name in ("ours", "theirs"))
    first = here.v3(here.order, ours)
    assert here.v3(here.order, ours).headers["Idempotent-Replayed"] == "true"
    assert here.v3({**here.order, "quantity": 1001}, ours).json["code"] == "duplicate_link"
    bought = len(here.market.bought(PANEL))

    same, other = here.v3(here.order, theirs), here.v3({**here.order, "link": f"{LINK}/free"}, theirs)
    assert seen(same, same.json["order"]) == seen(other, other.json["order"])
    assert "Idempotent-Replayed" not in same.headers
    assert same.json["order"] != first.json["order"]
    assert len(here.market.bought(PANEL)) == bought + 2


# -- who calls -------------------------------------------------------------------------------------------------------


def test_a_key_opens_its_own_tenant_only(here: Neighbours) -> None:
    """Its parts cannot be put together anew: tenant and key id are in it, and its checksum is no secret."""
    acme, birch = parse_client_key(here.market.key), parse_client_key(here.birch)
    assert acme is not None
    assert birch is not None

    def forged(tenant: str, key_id: str) -> str:
        head = here.birch[:-6].replace("_birch_", f"_{tenant}_").replace(birch.id, key_id)
        return head + _checksum(head)

    assert forged("birch", birch.id) == here.birch
    with here.untouched():
        for tenant, key_id in (("acme", birch.id), ("acme", acme.id), ("birch", acme.id)):
            key, nobodys_key = forged(tenant, key_id), forged("nobody", birch.id)
            for fields in ({"action": action} for action in ("balance", "orders", "services", "nonsense")):
                assert seen(here.v2(fields, key)) == seen(here.v2(fields, nobodys_key))
                refused = here.v3(fields, key)
                assert seen(refused) == seen(here.v3(fields, nobodys_key))
                assert refused.status == 401
                assert "RateLimit" not in refused.headers


def test_one_tenants_limit_and_origin_are_its_own(here: Neighbours) -> None:
    busy = here.market.add_tenant(
        Tenant(id="busy", interval=SECOND, burst=2, origins=frozenset({"https://busy.example"}))
    )
    idle = here.market.add_tenant(
        Tenant(id="idle", interval=SECOND, burst=2, origins=frozenset({"https://idle.example"}))
    )
    assert [here.v3({"action": "balance"}, busy).status for _ in range(3)] == [200, 200, 429]
    answer = here.v3({"action": "balance"}, idle)
    assert (answer.status, answer.headers["RateLimit"]) == (200, '"default";r=1;t=1')
    here.market.time.at += MINUTE
    known = here.same(
        lambda origin: here.v3({"action": "balance"}, idle, origin=origin),
        "https://busy.example",
        "https://none.example",
    )
    assert known.status == 403
    assert "Access-Control-Allow-Origin" not in known.headers


# -- one container for all -------------------------------------------------------------------------------------------

READS: tuple[Mapping[str, Any], ...] = (
    {"action": "balance"},
    {"action": "services"},
    {"action": "orders"},
    {"action": "orders", "limit": 1},
    {"action": "orders", "idempotency_key": "mine"},
)
THREADS, ROUNDS = 4, 8


@dataclass
class Town:
    """Tenants that share a container, and a panel that says of each order whose it is."""

    world: World
    markups: Mapping[str, Decimal]
    keys: dict[str, str] = field(default_factory=dict)
    orders: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def new(cls, world: World) -> "Town":
        town = cls(world, {"elm": Decimal(0), "fir": Decimal("0.25")})
        for name, markup in town.markups.items():
            origin = frozenset({f"https://{name}.example"})
            town.keys[name] = world.add_tenant(
                Tenant(id=name, markup=markup, interval=1, burst=1000, origins=origin), credit=900 * SECOND
            )
            town.orders[name] = []
        world.panel.behaviours["status"] = town._status
        return town

    def _status(self, panel: PretendPanel, fields: dict[str, str]) -> Reply:
        """Say of each order how many letters its link has and whose it is, in the only fields that come through."""

        def one(number: int) -> dict[str, object]:
            bought = panel.purchases[number - panel.first_order]
            whose = 1 + list(self.markups).index(bought["link"].split("/")[-2])
            return {"status": "In progress", "start_count": whose, "remains": whose, "charge": "1", "currency": "USD"}

        asked = fields.get("orders") or fields["order"]
        rows = {number: one(int(number)) for number in asked.split(",")}
        return Reply(200, {}, json.dumps(rows if "orders" in fields else rows[asked]).encode())

    def whose(self, name: str) -> int:
        return 1 + list(self.markups).index(name)

    def ask(self, name: str, fields: Mapping[str, Any]) -> Answered:
        """Call as a tenant from its page."""
        headers = {"authorization": f"Bearer {self.keys[name]}", "origin": f"https://{name}.example"}
        answer = v3(self.world, fields, headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == f"https://{name}.example"
        return answer

    def buy(self, name: str, key: str, number: int) -> int:
        """Buy under a key that the other has, too, and compare what is answered with what is the tenant's."""
        link, quantity = f"https://links.example/{name}/{number}", 1000 + number
        answer = self.ask(
            name, {"action": "add", "service": 1001, "link": link, "quantity": quantity, "idempotency_key": key}
        )
        assert answer.status == 200, answer.text
        assert answer.json["charged"] == self.price(name, quantity)
        self.orders[name].append(answer.json["order"])
        return int(answer.json["order"])

    def price(self, name: str, quantity: int) -> object:
        rate = money.tenant_rate(Decimal("0.90"), markup=self.markups[name], fx=Decimal(1))
        return json.loads(str(money.amount(money.charge(rate, quantity))))

    def check(self, name: str, row: Mapping[str, Any]) -> None:
        """Expect that a status, or a row of a list, is of this tenant in all it says."""
        assert row["start_count"] in (None, self.whose(name))
        if "link" in row:
            assert row["link"].split("/")[-2] == name
            assert row["charge"] == self.price(name, row["quantity"])
        else:
            assert row["order"] in self.orders[name]


@pytest.fixture
def town(world: World) -> Town:
    return Town.new(world)


def test_a_container_answers_each_tenant_as_a_fresh_one_would(town: Town) -> None:
    for number in range(2):
        for name in town.keys:
            town.buy(name, "mine" if number else "first", number)
    used = town.world.parts
    for fields, name in product(READS, list(town.keys) * 2):
        warm = town.ask(name, fields)
        town.world.parts = town.world.twin()
        cold = town.ask(name, fields)
        town.world.parts = used
        assert seen(warm) == seen(cold)


def test_nobody_sees_the_others_when_all_use_a_container_at_once(town: Town) -> None:
    start = threading.Barrier(THREADS * len(town.keys))
    shared: dict[str, list[int]] = {name: [] for name in town.keys}

    def live(name: str, thread: int) -> None:
        [other] = town.keys.keys() - {name}
        start.wait(20)
        for turn in range(ROUNDS):
            own = town.buy(name, f"key-{thread}-{turn}", thread * ROUNDS + turn)
            shared[name].append(own)
            town.check(name, town.ask(name, {"action": "status", "order": own}).json)
            foreign = shared[other][-1] if shared[other] else 1_234_567
            answer = town.ask(name, {"action": "status", "orders": [own, foreign]})
            town.check(name, answer.json["orders"][0])
            assert answer.json["orders"][1] == {
                "order": foreign,
                "error": "Incorrect order ID",
                "code": "order_not_found",
            }
            for action in ("refill", "cancel"):
                refused = town.ask(name, {"action": action, "order": foreign})
                assert (refused.status, refused.json["code"]) == (404, "order_not_found")
                assert refused.json["request_id"] == refused.headers["X-Request-Id"]
            for row in town.ask(name, {"action": "orders", "limit": 100}).json["orders"]:
                town.check(name, row)
            rates = {row["service"]: row["rate"] for row in town.ask(name, {"action": "services"}).json}
            assert rates[1001] == ("0.9", "1.125")[town.whose(name) - 1]

    with ThreadPoolExecutor(THREADS * len(town.keys)) as threads:
        for done in [threads.submit(live, name, number) for name in town.keys for number in range(THREADS)]:
            done.result()

    for name in town.keys:
        bought = [one for one in town.world.panel.purchases if one["link"].split("/")[-2] == name]
        assert len(bought) == len(set(town.orders[name])) == THREADS * ROUNDS
        spent = sum(order.charge for order in town.world.parts.orders.page(name))
        assert town.world.money(name) == (900 * SECOND - spent, 0)
