"""Odd moments and hostile values that once found a gap: each of these failed before it was closed."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.api.answers import serve
from chalicelib.api.cors import preflight
from chalicelib.api.v3 import V3
from chalicelib.aws.registry import Exists
from chalicelib.clock import SECOND
from chalicelib.commands import AddCommand, StatusCommand
from chalicelib.errors import Code, Refusal
from chalicelib.jobs import sweep_orders, sync_catalog
from chalicelib.model import Account, Order, OrderState, OrderStatus, Provider, Tenant
from chalicelib.ordering import SENDER_GONE
from chalicelib.panels.dialect import Reply
from tests.api.http import Answered, incoming, v2, v3
from tests.faults import StoreFault, faulty, release_lost, store_error
from tests.world import FOLLOWERS, LINK, PROVIDER_KEY, PretendPanel, World, buys, cannot_be_reached, says

CREDIT = 100 * SECOND
PRICE = 900_000
ADD = {"action": "add", "service": 1001, "link": LINK, "quantity": 1000}


@pytest.fixture
def narrow(world: World) -> Provider:
    return world.add_provider(
        Provider(slug="narrow", number=0, dialect="perfectpanel", url="https://narrow.test/", concurrency=1)
    )


# -- 1. giving the concurrency back decides nothing -----------------------------------------------------------------


def test_a_purchase_is_told_although_its_concurrency_could_not_be_given_back(world: World, narrow: Provider) -> None:
    receipt = world.add(parts=faulty(world, release_lost), service=1000 + narrow.number)

    assert len(world.panel.purchases) == 1
    order = world.parts.orders.get("acme", receipt.order)
    assert order is not None
    assert order.state is OrderState.PLACED


def test_a_status_is_told_although_its_concurrency_could_not_be_given_back(world: World, narrow: Provider) -> None:
    order = world.add(service=1000 + narrow.number).order
    parts = faulty(world, release_lost)
    session = world.session(parts=parts)
    before = world.time.at

    progress = parts.gateway.execute(session, StatusCommand(order=order))
    assert progress.status is OrderStatus.IN_PROGRESS  # type: ignore[union-attr]
    assert world.time.at - before < 3 * SECOND


def test_a_lost_reply_of_the_reservation_does_not_shut_the_provider_to_ourselves(
    world: World, narrow: Provider
) -> None:
    lost: list[str] = []

    def lose_first(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        reply = call()
        if name == "update_item" and "inflight" in request["UpdateExpression"] and not lost:
            lost.append(name)
            raise ReadTimeoutError(endpoint_url="http://store")
        return reply

    assert not world.add(parts=faulty(world, lose_first), service=1000 + narrow.number).pending
    assert lost


# -- 2. hostile input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["1e9999999999999999999", "-1e9999999999999999999", "1.5E-99999999999999999999"])
def test_an_exponent_beyond_decimals_own_bounds_is_a_bad_request(world: World, number: str) -> None:
    body = f'{{"action":"balance","x":{number}}}'.encode()
    assert v3(world, body=body).status == 400
    headers = {"content-type": "application/json", "x-api-key": world.key}
    assert v2(world, headers=headers, body=body).json == {"error": "Incorrect request"}


def _keys_are_short(_name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
    """What DynamoDB does and the emulator may not: a partition key holds 1 to 2048 bytes."""
    for value in request.get("ExpressionAttributeValues", {}).values():
        if len(str(value.get("S", "")).encode()) > 2048:
            raise store_error("ValidationException")
    return call()


@pytest.mark.parametrize("origin", ["https://" + "a" * 4000, "https://ö" * 900, ""])
def test_an_origin_of_any_length_is_only_not_granted(world: World, origin: str) -> None:
    gateway = faulty(world, _keys_are_short).gateway

    answer = Answered.of(preflight(incoming(world, method="OPTIONS", headers={"origin": origin}), gateway))
    assert answer.status == 403
    headers = {"content-type": "application/json", "authorization": "Bearer x", "origin": origin}
    answer = Answered.of(serve(V3, incoming(world, headers=headers, body=b'{"action":"balance"}'), gateway))
    assert answer.status == 401
    assert "Access-Control-Allow-Origin" not in answer.headers


# -- 3. the provider's key comes back in disguise -------------------------------------------------------------------

TRICKY = "pk/4f9c+2a77&11d0=e6b8"


def _echo(text: str) -> Callable[[PretendPanel, dict[str, str]], Reply]:
    return lambda _panel, _fields: Reply(200, {}, text.encode())


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


@pytest.mark.parametrize(
    ("body", "spelling"),
    [
        ('{"error":"Wrong: KEY"}', TRICKY.replace("/", "\\/")),  # PHP's json_encode
        ('{"error":"Wrong: KEY"}', _escaped(TRICKY)),
        ('{"error":"Incorrect link","message":"KEY"}', _escaped(TRICKY)),
        ('{"error":"KEY","errors":"Incorrect link"}', _escaped(TRICKY)),
        ('{"order":77,"error":"KEY"}', _escaped(TRICKY)),
        ('{"status":"KEY"}', _escaped(TRICKY)),
        ("Wrong: KEY", TRICKY.replace("/", "\\/")),
        ("<title>KEY", TRICKY.replace("&", "&amp;")),
    ],
)
def test_a_key_echoed_in_json_escapes_is_kept_nowhere(
    world: World, body: str, spelling: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.add_provider(Provider(slug="odd", number=0, dialect="perfectpanel", url="https://odd.test/"), key=TRICKY)
    world.panel.keys.add(TRICKY)
    placed = world.add(service=1000 + world.registry.provider("odd").number).order
    echo = _echo(body.replace("KEY", spelling))
    world.panel.behaviours |= {"add": echo, "status": echo}
    with caplog.at_level(logging.DEBUG, logger="panelgate"):
        answers = [
            v3(world, {**ADD, "service": 1002}, headers={"idempotency-key": "k"}),
            v3(world, {**ADD, "service": 1002}, headers={"idempotency-key": "k"}),
            v3(world, {"action": "status", "order": placed}),
        ]
    stored = list(world.parts.table.query("T#acme"))
    for told in (str([answer.text for answer in answers]), str([vars(r) for r in caplog.records]), str(stored)):
        assert TRICKY not in told
        assert TRICKY[3:] not in told


def test_a_key_in_the_catalog_is_not_kept(world: World) -> None:
    row = {"service": 5, "name": "?", "type": "Default", "category": "?", "rate": "1", "min": "1", "max": "2"}
    text = json.dumps([row]).replace("?", _escaped(PROVIDER_KEY))
    world.panel.behaviours["services"] = _echo(text)
    provider = world.registry.provider("smosale")
    sync_catalog(world.parts, provider)
    assert PROVIDER_KEY not in str(world.parts.catalog.listings(["smosale"]))
    assert PROVIDER_KEY not in str(list(world.parts.table.query("P#smosale", "SERVICE#")))


# -- 4. money and keys of what was not sent -------------------------------------------------------------------------


def test_a_key_whose_order_was_told_stays_with_it_although_the_late_sender_sent_nothing(world: World) -> None:
    told: list[int] = []

    def asleep(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        world.panel.behaviours["add"] = buys
        world.time.at += 25 * SECOND + SENDER_GONE
        sweep_orders(world.twin())
        told.append(world.add(idempotency_key="k", parts=world.twin()).order)
        return cannot_be_reached(panel, fields)

    world.panel.behaviours["add"] = asleep
    late = world.add(idempotency_key="k")

    assert late.pending
    assert told == [late.order]
    assert world.add(idempotency_key="k").order == late.order, "a key that made an order never frees"
    assert world.status(late.order).status in (OrderStatus.PENDING, OrderStatus.CANCELED)


def test_an_order_whose_id_was_told_is_never_not_found(world: World) -> None:
    """The refusal was written down, and the reply to that was lost until the end: the caller was told an id."""

    def replies_lost(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        reply = call()
        if name == "transact_write_items" and "Update" in request["TransactItems"][0]:
            raise ReadTimeoutError(endpoint_url="http://store")
        return reply

    world.panel.behaviours["add"] = cannot_be_reached
    receipt = world.add(parts=faulty(world, replies_lost))
    assert receipt.pending
    assert world.money() == (CREDIT, 0)
    assert world.status(receipt.order).status is OrderStatus.CANCELED


def test_a_waiting_neighbour_is_not_told_a_refusal_that_nobody_gave(world: World) -> None:
    """The first request frees its key between the neighbour's failed claim and its look at the order."""
    parts = world.twin()
    first: list[Refusal] = []

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(parts.orders, name)

        def accept(self, order: Order, *, until: int) -> Any:
            def neighbour_is_first(panel: PretendPanel, fields: dict[str, str]) -> Reply:
                found.append(parts.orders.accept(order, until=until))
                return cannot_be_reached(panel, fields)

            found: list[Any] = []
            world.panel.behaviours["add"] = neighbour_is_first
            try:
                world.add(idempotency_key="k")
            except Refusal as refusal:
                first.append(refusal)
            [claimed] = found
            return replace(claimed, order=world.parts.orders.get("acme", claimed.order.id))

    gateway = dataclasses.replace(parts.gateway, orders=Late())
    with pytest.raises(Refusal) as refused:
        gateway.execute(
            world.session(),
            AddCommand.read({"service": 1001, "link": LINK, "quantity": 1000, "idempotency_key": "k"}),
        )
    assert first[0].code is Code.SERVICE_UNAVAILABLE
    assert refused.value.code in (Code.SERVICE_UNAVAILABLE, Code.REQUEST_IN_PROGRESS)
    assert refused.value.retry_after


def test_a_second_try_that_the_store_does_not_allow_bought_nothing_and_frees_the_key(world: World) -> None:
    world.add()
    world.put_key(Account("smosale"), "pk-the-new-one-99", token="1" * 32)

    def no_reattempt(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if name == "update_item" and "attempts" in request["UpdateExpression"]:
            raise ReadTimeoutError(endpoint_url="http://store")
        return call()

    parts = faulty(world, no_reattempt)
    parts.vault.key(Account("smosale"))
    world.panel.keys = {"pk-the-new-one-99"}
    old = replace(parts.vault.key(Account("smosale")), value=PROVIDER_KEY, version="0" * 32)
    parts.vault._cache[Account("smosale")] = (old, world.time.at + 30 * SECOND)  # noqa: SLF001
    with pytest.raises(Refusal) as refused:
        world.add(parts=parts, idempotency_key="k")
    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert world.money() == (CREDIT - PRICE, 0)
    assert not world.add(idempotency_key="k").replayed


# -- 5. catalogs ----------------------------------------------------------------------------------------------------


def test_one_service_without_a_price_takes_no_other_one_away(world: World) -> None:
    dear = replace(FOLLOWERS, id=9, rate=Decimal(999999999999))
    world.parts.catalog.sync("smosale", [FOLLOWERS, dear])
    headers = {"authorization": "Bearer " + world.add_tenant(Tenant(id="marked", markup=Decimal("0.1")))}
    listed = v3(world, {"action": "services"}, headers=headers)
    assert listed.status == 200
    assert [row["service"] for row in listed.json] == [1001]
    assert v3(world, {**ADD, "service": 9001}, headers=headers).status == 404


def test_the_etag_follows_everything_that_the_list_depends_on(world: World) -> None:
    seen: set[str] = set()
    for settings in (
        {"markup": Decimal("0.1")},
        {"markup": Decimal(0), "services": frozenset()},
        {"services": None},
    ):
        world.registry.change_tenant("acme", partial(replace, **settings))
        etag = v3(world, {"action": "services"}).headers["ETag"]
        assert etag not in seen, settings
        seen.add(etag)


def test_what_a_batch_leaves_undone_is_asked_for_within_bounds(world: World) -> None:
    asked: list[int] = []

    def never_done(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        if name != "batch_get_item":
            return call()
        asked.append(world.time.at)
        assert len(asked) < 1000, "it asks for ever"
        return {"Responses": {}, "UnprocessedKeys": request["RequestItems"]}

    parts = faulty(world, never_done)

    headers = {"content-type": "application/json", "authorization": f"Bearer {world.key}"}
    answer = Answered.of(serve(V3, incoming(world, headers=headers, body=b'{"action":"services"}'), parts.gateway))
    assert answer.status == 503
    assert len(asked) < 100


# -- 6. other -------------------------------------------------------------------------------------------------------


def test_a_dialect_that_this_version_does_not_know_is_unavailable(world: World) -> None:
    old = world.add_provider(Provider(slug="old", number=0, dialect="gone", url="https://old.test/"))
    for extra in ({}, {"runs": 2, "interval": 5}):
        assert v3(world, {**ADD, **extra, "service": 1000 + old.number}).status == 503
    assert world.money() == (CREDIT, 0)


def _slow_store(world: World) -> StoreFault:
    """Every first try hangs until the client's own limits are over; the next one works, late."""
    tries: Iterator[int] = iter(range(10**6))

    def fault(_name: str, _request: dict[str, Any], call: Callable[[], Any]) -> Any:
        world.time.sleep(1.9)
        if next(tries) % 2 == 0:
            raise ReadTimeoutError(endpoint_url="http://store")
        return call()

    return fault


@pytest.mark.parametrize(
    "action",
    [
        "add",
        "services",
        "balance",
        "status",
    ],
)
def test_a_slow_store_does_not_keep_a_request_past_29_s(world: World, action: str) -> None:
    order = world.add().order
    world.time.sleep(60)

    fields = {"add": ADD, "status": {"action": "status", "order": order}}.get(action, {"action": action})
    world.panel.behaviours["status"] = _after(world, 9, says({"status": "Pending"}))
    world.panel.behaviours["add"] = _after(world, 5, buys)
    arrival = world.time.at
    call = incoming(
        world,
        headers={"content-type": "application/json", "authorization": f"Bearer {world.key}"},
        body=json.dumps(fields).encode(),
        end=arrival + 28 * SECOND,
    )
    serve(V3, call, faulty(world, _slow_store(world)).gateway)
    assert world.time.at - arrival < 28 * SECOND, (world.time.at - arrival) / SECOND


def _after(world: World, seconds: float, behaviour: Any) -> Any:
    def act(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        world.time.sleep(seconds)
        reply: Reply = behaviour(panel, fields)
        return reply

    return act


def test_two_syncs_at_once_leave_a_catalog_that_can_be_read(world: World) -> None:
    done: list[str] = []

    def neighbour_first(name: str, request: dict[str, Any], call: Any) -> Any:
        """Another sync has written its pieces, and not yet its head, when this one looks for old pieces."""
        items = [
            r["PutRequest"]["Item"]
            for r in request.get("RequestItems", {}).get(world.parts.table.name, [])
            if "PutRequest" in r
        ]
        if name == "batch_write_item" and any(i["sk"]["S"] == "CATALOG" for i in items) and not done:
            done.append(name)
            world.twin().catalog.sync("smosale", [replace(FOLLOWERS, min=60)])
        return call()

    parts = faulty(world, neighbour_first)
    parts.catalog.sync("smosale", [replace(FOLLOWERS, min=70)])
    assert done
    assert world.twin().catalog.listings(["smosale"])["smosale"].services


def test_a_name_that_stood_for_another_panel_is_not_given_again(world: World) -> None:
    removed = world.registry.provider("smosale")
    world.registry.remove_provider("smosale")
    with pytest.raises(Exists, match="choose another name"):
        world.registry.add_provider(replace(removed, url="https://new.test/"))
    assert world.registry.add_provider(removed).number == removed.number


def test_an_unknown_order_is_not_said_to_be_fresh(world: World) -> None:
    world.panel.behaviours["add"] = says("?")
    order = world.add().order
    world.time.sleep(3600)
    progress = world.status(order)
    assert progress.status is OrderStatus.PENDING
    assert progress.stale


def test_v2_does_not_leave_out_services_in_silence(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chalicelib.api.pages.MAX_PAGE", 250)
    with caplog.at_level(logging.ERROR, logger="panelgate"):
        answer = v2(world, {"action": "services"})
    assert len(answer.json) == 1
    assert "services left out" in caplog.messages


def test_a_drip_feed_of_a_service_that_says_it_has_none_is_refused(world: World) -> None:
    world.parts.catalog.sync("smosale", [replace(FOLLOWERS, dripfeed=False)])
    assert v3(world, {**ADD, "runs": 3, "interval": 10}).status in (400, 422)


def test_the_largest_body_makes_an_order_and_its_record(world: World) -> None:
    answer = v3(world, {**ADD, "mystery": "x" * 255_000})
    assert answer.status == 200, answer.text
    assert v3(world, {"action": "status", "order": answer.json["order"]}).status == 200
