"""Status, refill, refill_status and cancel: one and many, of several panels, in both versions."""

from decimal import Decimal
from typing import Any

import pytest

from chalicelib.clock import MINUTE, SECOND
from chalicelib.model import OrderStatus, Reading, Tenant
from chalicelib.panels.dialect import Reply
from sandbox.orders import Stage
from tests.api.http import Answered, v2, v3
from tests.market import Market
from tests.world import LINK, PretendPanel, World, says

PANELS = ("smosale", "smmrich", "smmleaf", "mysticsmm", "smmafrica")
STATUS_FIELDS = {"charge", "start_count", "status", "remains", "currency"}


def order(market: Market, slug: str = "smosale", link: str = LINK, key: str | None = None) -> int:
    quantity = 500 if slug in ("mysticsmm", "smmafrica") else 100
    service = market.service(slug, "Default")
    if slug == "smosale":
        service = market.registry.provider(slug).number + 1000  # "Followers", which may be refilled and canceled
    fields = {"action": "add", "service": service, "link": link, "quantity": quantity}
    answer = v3(market, fields, headers={"authorization": f"Bearer {key or market.key}"})
    assert answer.status == 200, answer.text
    market.time.at += SECOND  # mysticsmm's pace
    return int(answer.json["order"])


def completed(market: Market, slug: str = "smosale") -> int:
    number = order(market, slug, link=f"{LINK}/{len(market.bought(slug))}")
    market.move(slug, number, Stage.COMPLETED)
    return number


# -- status -------------------------------------------------------------------------------------------------------


def test_v2_a_batch_of_statuses_is_an_object_by_id_with_each_error_in_its_slot(market: Market) -> None:
    numbers = [order(market, link=f"{LINK}/{n}") for n in range(3)]
    answer = v2(market, {"action": "status", "orders": f"{numbers[2]}, {numbers[0]},7,{numbers[0]} ,abc,,{numbers[1]}"})
    assert list(answer.json) == [str(numbers[2]), str(numbers[0]), "7", "abc", str(numbers[1])]
    assert answer.json["7"] == answer.json["abc"] == {"error": "Incorrect order ID"}
    for number in numbers:
        status = answer.json[str(number)]
        assert set(status) == STATUS_FIELDS
        assert all(isinstance(value, str) for value in status.values())


def test_v3_a_batch_of_statuses_is_a_list(market: Market) -> None:
    number = order(market)
    answer = v3(market, {"action": "status", "orders": [str(number), 5, "x"]})
    assert answer.status == 200
    first, *rest = answer.json["orders"]
    assert first == v3(market, {"action": "status", "order": number}).json
    assert rest == [
        {"order": 5, "error": "Incorrect order ID", "code": "order_not_found"},
        {"order": "x", "error": "Incorrect order ID", "code": "order_not_found"},
    ]


def test_a_batch_over_five_panels_is_split_and_joined_in_order(market: Market) -> None:
    numbers = [order(market, slug, link=f"{LINK}/{n}") for n in range(2) for slug in PANELS]
    answer = v3(market, {"action": "status", "orders": numbers})
    assert [row["order"] for row in answer.json["orders"]] == numbers
    assert not any(row["stale"] for row in answer.json["orders"])
    for slug in ("smosale", "smmrich", "smmleaf"):
        [asked] = market.asked(slug, "status")
        assert len(asked["orders"].split(",")) == 2
    for slug in ("mysticsmm", "smmafrica"):  # no batch in their documents
        assert len(market.asked(slug, "status")) == 2


def test_a_hundred_orders_are_one_call_and_more_are_refused(market: Market) -> None:
    numbers = [order(market, "smmrich", link=f"{LINK}/{n}") for n in range(100)]
    answer = v2(market, {"action": "status", "orders": ",".join(map(str, numbers))})
    assert [int(number) for number in answer.json] == numbers
    assert {status["status"] for status in answer.json.values()} <= {
        "Pending",
        "Processing",
        "In progress",
        "Completed",
    }
    assert len(market.asked("smmrich", "status")) == 1
    assert v2(market, {"action": "status", "orders": ",".join(map(str, range(1, 102)))}).json == {
        "error": "Incorrect request"
    }


def test_what_a_slow_panel_has_no_time_for_is_stale_and_comes_first_next_time(market: Market) -> None:
    numbers = [order(market, "mysticsmm", link=f"{LINK}/{n}") for n in range(30)]
    began = market.time.at
    first = v3(market, {"action": "status", "orders": numbers}).json["orders"]
    assert market.time.at - began <= 12 * SECOND
    fresh = {row["order"] for row in first if not row["stale"]}
    assert 5 <= len(fresh) < 30
    market.time.at += 16 * SECOND
    second = v3(market, {"action": "status", "orders": numbers}).json["orders"]
    assert not fresh & {
        row["order"] for row in second if row["updated_at"] > first[-1]["updated_at"] and not row["stale"]
    }


def test_final_and_fresh_orders_are_not_asked_for_again(market: Market) -> None:
    numbers = [order(market, link=f"{LINK}/{n}") for n in range(2)]
    market.move("smosale", numbers[0], Stage.COMPLETED)
    v3(market, {"action": "status", "orders": numbers})
    v3(market, {"action": "status", "orders": numbers})
    assert len(market.asked("smosale", "status")) == 1
    market.time.at += 16 * SECOND
    answer = v3(market, {"action": "status", "orders": numbers})
    assert [row["stale"] for row in answer.json["orders"]] == [False, False]
    assert len(market.asked("smosale", "status")) == 2
    assert "orders" not in market.asked("smosale", "status")[-1]


def test_a_panel_that_cannot_be_reached_spoils_only_its_own_orders(market: Market) -> None:
    numbers = {slug: order(market, slug) for slug in PANELS}
    market.network.unreachable = {"smmrich", "smmafrica"}
    rows = v3(market, {"action": "status", "orders": list(numbers.values())}).json["orders"]
    stale = {slug: row["stale"] for slug, row in zip(numbers, rows, strict=True)}
    assert stale == {slug: slug in market.network.unreachable for slug in PANELS}


def test_a_panel_that_is_down_is_not_tried_for_every_order(market: Market) -> None:
    numbers = [order(market, "smmafrica", link=f"{LINK}/{n}") for n in range(10)]
    market.network.unreachable, tries = {"smmafrica"}, market.network.tries
    rows = v3(market, {"action": "status", "orders": numbers}).json["orders"]
    assert all(row["stale"] for row in rows)
    assert market.network.tries == tries + 1


def test_another_tenants_orders_look_like_none(market: Market) -> None:
    theirs = market.add_tenant(Tenant(id="other", interval=1, burst=100))
    mine, foreign = order(market), order(market, link=f"{LINK}/2", key=theirs)
    market.time.at += 16 * SECOND
    for action in ("status", "refill", "cancel"):
        answer = v2(market, {"action": action, "orders": f"{foreign},{mine},1999999999"})
        rows = list(answer.json.values()) if action == "status" else [row[action] for row in answer.json]
        assert rows[0] == rows[2] == {"error": "Incorrect order ID"}
        assert rows[1] != rows[0]
    assert not any(str(foreign) in str(fields) for _, fields in market.network.heard)


def test_a_key_for_other_providers_does_not_see_the_order(market: Market) -> None:
    number = order(market)
    narrow = market.clients.create("acme", providers=["smmrich"]).key
    for action in ("status", "refill", "cancel"):
        answer = v3(market, {"action": action, "order": number}, headers={"authorization": f"Bearer {narrow}"})
        assert (answer.status, answer.json["code"]) == (404, "order_not_found")


# -- refill and its status ----------------------------------------------------------------------------------------


def test_v2_a_refill_is_text_for_one_and_a_number_in_a_batch(market: Market) -> None:
    done, other, pending = completed(market), completed(market), order(market, link=f"{LINK}/p")
    one = v2(market, {"action": "refill", "order": done}).json
    assert list(one) == ["refill"]
    assert one["refill"].isdigit()
    assert int(one["refill"]) >= 10**6

    many = v2(market, {"action": "refill", "orders": f"{other},{pending},3"}).json
    assert [row["order"] for row in many] == [other, pending, 3]
    assert isinstance(many[0]["refill"], int)
    assert many[1]["refill"] == {"error": "Order not eligible for refill."}
    assert many[2]["refill"] == {"error": "Incorrect order ID"}


def test_refill_status_in_all_its_forms(market: Market) -> None:
    refills = [int(v2(market, {"action": "refill", "order": completed(market)}).json["refill"]) for _ in range(2)]
    assert v2(market, {"action": "refill_status", "refill": refills[0]}).json == {"status": "In progress"}
    market.time.at += MINUTE
    assert v2(market, {"action": "refill_status", "refill": str(refills[0])}).json == {"status": "Completed"}
    assert v2(market, {"action": "refill_status", "order": refills[0]}).json == {"status": "Completed"}
    expected = [
        {"refill": refills[1], "status": "Completed"},
        {"refill": 9, "status": {"error": "Refill not found"}},
        {"refill": refills[0], "status": "Completed"},
    ]
    ids = f"{refills[1]},9,{refills[0]}"
    assert v2(market, {"action": "refill_status", "refills": ids}).json == expected
    assert v2(market, {"action": "refill_status", "order": ids}).json == expected
    assert v3(market, {"action": "refill_status", "refill": refills[0]}).json == {
        "refill": refills[0],
        "status": "completed",
    }
    assert v3(market, {"action": "refill_status", "refills": [9, refills[0]]}).json == {
        "refills": [
            {"refill": 9, "error": "Refill not found", "code": "refill_not_found"},
            {"refill": refills[0], "status": "completed"},
        ]
    }
    assert v2(market, {"action": "refill_status", "refill": 9}).json == {"error": "Refill not found"}


def test_a_rejected_refill_says_so_and_is_final(market: Market) -> None:
    number = order(market, link=f"{LINK}/norefill")
    market.move("smosale", number, Stage.COMPLETED)
    refill = v3(market, {"action": "refill", "order": number}).json["refill"]
    market.time.at += 100 * SECOND
    ask = {"action": "refill_status", "refill": refill}
    assert v3(market, ask).json["status"] == "rejected"
    asked = len(market.asked("smosale", "refill_status"))
    market.time.at += 100 * SECOND
    assert v3(market, ask).json["status"] == "rejected"
    assert len(market.asked("smosale", "refill_status")) == asked


def test_a_refill_without_an_id_of_the_panels_has_one_of_ours_and_an_honest_status(market: Market) -> None:
    number = order(market, "smmafrica")
    market.move("smmafrica", number, Stage.COMPLETED)
    answer = v3(market, {"action": "refill", "order": number})
    assert answer.json["success"] == "Refill request accepted."
    status = v3(market, {"action": "refill_status", "refill": answer.json["refill"]})
    assert status.json == {"refill": answer.json["refill"], "status": "unknown"}
    assert v2(market, {"action": "refill_status", "refill": answer.json["refill"]}).json == {"status": "Pending"}


def test_another_tenants_refills_look_like_none(market: Market) -> None:
    refill = v3(market, {"action": "refill", "order": completed(market)}).json["refill"]
    theirs = market.add_tenant(Tenant(id="other", interval=1, burst=100))
    headers = {"authorization": f"Bearer {theirs}"}
    for number in (refill, 1_999_999_999):
        answer = v3(market, {"action": "refill_status", "refill": number}, headers=headers)
        assert (answer.status, answer.json["code"]) == (404, "refill_not_found")


# -- cancel -------------------------------------------------------------------------------------------------------


def test_v2_cancel_is_an_array_also_for_one(market: Market) -> None:
    number, done = order(market), completed(market)
    assert v2(market, {"action": "cancel", "order": number}).json == [{"order": number, "cancel": 1}]
    answer = v2(market, {"action": "cancel", "orders": f"9,{number},{done},x"}).json
    assert answer == [
        {"order": 9, "cancel": {"error": "Incorrect order ID"}},
        {"order": number, "cancel": 1},
        {"order": done, "cancel": {"error": "Order cannot be canceled"}},
        {"order": "x", "cancel": {"error": "Incorrect order ID"}},
    ]
    assert v2(market, {"action": "cancel", "order": 9}).json == [
        {"order": 9, "cancel": {"error": "Incorrect order ID"}}
    ]


def test_v2_a_list_without_an_id_does_not_change_the_array_of_one(market: Market) -> None:
    number = order(market)
    blank = v2(market, {"action": "cancel", "order": number, "orders": " , ]"})
    assert blank.json == [{"order": number, "cancel": 1}]


def test_v3_cancel_for_one_and_for_many(market: Market) -> None:
    number = order(market)
    assert v3(market, {"action": "cancel", "order": number}).json == {
        "order": number,
        "success": "Cancellation request accepted.",
    }
    assert v3(market, {"action": "cancel", "orders": [number, 9]}).json == {
        "orders": [
            {"order": number, "success": "Cancellation request accepted."},
            {"order": 9, "error": "Incorrect order ID", "code": "order_not_found"},
        ]
    }
    market.time.at += 20 * SECOND
    assert v3(market, {"action": "status", "order": number}).json["status"] == "canceled"


@pytest.mark.parametrize(
    ("slug", "action"),
    [("mysticsmm", "refill"), ("mysticsmm", "cancel"), ("smmrich", "cancel"), ("smmleaf", "cancel")],
)
def test_what_a_provider_does_not_offer_is_not_supported(market: Market, slug: str, action: str) -> None:
    number = order(market, slug)
    answer = v3(market, {"action": action, "order": number})
    assert (answer.status, answer.json["code"]) == (422, "not_supported")
    name = "orders" if action == "cancel" else "order"
    told = v2(market, {"action": action, name: number}).json
    assert told == (
        [{"order": number, "cancel": {"error": "Incorrect request"}}]
        if action == "cancel"
        else {"error": "Incorrect request"}
    )


def test_single_calls_are_made_where_there_is_no_batch(market: Market) -> None:
    numbers = [order(market, "smmafrica", link=f"{LINK}/{n}") for n in range(5)]
    rows = v3(market, {"action": "cancel", "orders": numbers}).json["orders"]
    assert [row["order"] for row in rows] == numbers
    assert len(market.asked("smmafrica", "cancel")) == 5
    assert [fields["order"] for fields in market.asked("smmafrica", "cancel")] == sorted(
        record.id for record in market.bought("smmafrica")
    )


@pytest.mark.parametrize("action", ["refill", "cancel"])
def test_a_request_that_did_not_reach_its_panel_is_503_and_may_be_repeated(market: Market, action: str) -> None:
    number = completed(market) if action == "refill" else order(market)
    market.network.unreachable = {"smosale"}
    answer = v3(market, {"action": action, "order": number})
    assert (answer.status, answer.json["code"]) == (503, "service_unavailable")
    assert answer.headers["Retry-After"]
    market.network.unreachable = set()
    assert v3(market, {"action": action, "order": number}).status == 200


def test_a_disabled_provider_is_not_asked(market: Market) -> None:
    number = order(market)
    market.registry.set_enabled("smosale", enabled=False)
    market.time.at += 31 * SECOND
    asked = len(market.network.heard)
    assert v3(market, {"action": "status", "order": number}).json["stale"] is True
    assert v3(market, {"action": "cancel", "order": number}).status == 503
    assert len(market.network.heard) == asked


@pytest.mark.parametrize("action", ["status", "refill", "cancel"])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "missing_field"),
        ({"orders": []}, "missing_field"),
        ({"orders": " , "}, "missing_field"),
        ({"orders": True}, "invalid_request"),
        ({"orders": [[[1]]]}, "invalid_request"),
        ({"orders": [1, None, True]}, "invalid_request"),
        ({"order": [1]}, "invalid_request"),
        ({"order": {}}, "invalid_request"),
        ({"order": 1, "orders": [2]}, "invalid_request"),
        ({"order": "x" * 5000}, "order_not_found"),
        ({"order": -5}, "order_not_found"),
        ({"order": 1.5}, "invalid_request"),
        ({"order": 2**31}, "order_not_found"),
    ],
)
def test_bad_ids_have_their_code(market: Market, action: str, fields: dict[str, Any], code: str) -> None:
    answer: Answered = v3(market, {"action": action, **fields})
    assert answer.json["code"] == code
    assert not market.network.heard or all(heard.get("action") == "services" for _, heard in market.network.heard)


# -- the list of orders -------------------------------------------------------------------------------------------


def test_orders_are_listed_newest_first_in_pages(market: Market) -> None:
    numbers = [order(market, link=f"{LINK}/{n}") for n in range(5)]
    first = v3(market, {"action": "orders", "limit": 2}).json
    assert [row["order"] for row in first["orders"]] == numbers[:2:-1]
    second = v3(market, {"action": "orders", "limit": 2, "cursor": first["next"]}).json
    third = v3(market, {"action": "orders", "limit": 2, "cursor": second["next"]}).json
    assert [row["order"] for row in second["orders"] + third["orders"]] == numbers[2::-1]
    assert third["next"] is None
    row = third["orders"][0]
    assert (row["service"], row["link"], row["quantity"]) == (1002, f"{LINK}/0", 100)
    assert row["created_at"].startswith("2027-01-15T08:00:")
    assert row["idempotency_key"] is None


def test_orders_are_filtered(market: Market) -> None:
    early = order(market)
    market.move("smosale", early, Stage.COMPLETED)
    v3(market, {"action": "status", "order": early})
    since = "2027-01-15T08:00:10Z"
    service = market.service("smosale", "Default")
    late = v3(
        market,
        {"action": "add", "service": service, "link": LINK, "quantity": 100, "idempotency_key": "k-7"},
    ).json["order"]

    def listed(**filters: Any) -> list[int]:
        return [row["order"] for row in v3(market, {"action": "orders", **filters}).json["orders"]]

    assert listed() == [late, early]
    assert listed(status=OrderStatus.COMPLETED) == [early]
    assert listed(status="pending") == [late]
    assert listed(since=since) == [late]
    assert listed(idempotency_key="k-7") == [late]
    assert listed(idempotency_key="other") == []
    theirs = market.add_tenant(Tenant(id="other", interval=1, burst=100))
    assert v3(market, {"action": "orders"}, headers={"authorization": f"Bearer {theirs}"}).json == {
        "orders": [],
        "next": None,
    }


@pytest.mark.parametrize(
    "since", ["2026-11-24t00:00:00z", "2027-01-15T08:00:00.123456789Z", "9999-12-31T23:59:59-14:00"]
)
@pytest.mark.parametrize(
    "cursor", [None, "1800000000000000-1873254901", "1000000000000000-1000000", "9" * 16 + "-9999999"]
)
def test_any_cursor_goes_with_any_time(market: Market, since: str, cursor: str | None) -> None:
    order(market)
    assert v3(market, {"action": "orders", "since": since, "cursor": cursor}).status == 200
    assert v3(market, {"action": "orders", "since": "0001-01-01T00:00:00+14:00", "cursor": cursor}).status == 200


def test_what_was_refused_is_no_order_and_its_key_has_one_only(market: Market) -> None:
    service = market.service("smosale", "Default")
    fields = {"action": "add", "service": service, "link": LINK, "quantity": 100, "idempotency_key": "k"}
    funds = market.panel("smosale").balance
    market.panel("smosale").set_funds(Decimal(0))
    assert v3(market, fields).status == 503
    market.panel("smosale").set_funds(funds)
    number = v3(market, fields).json["order"]
    market.panel("smosale").settings.refuse_duplicate_links = True
    assert v3(market, {**fields, "idempotency_key": "d"}).json["code"] == "duplicate_link"
    assert [row["order"] for row in v3(market, {"action": "orders"}).json["orders"]] == [number]
    assert v3(market, {"action": "orders", "idempotency_key": "d"}).json["orders"] == []


def test_the_header_of_a_library_that_sends_it_with_everything_filters_nothing(market: Market) -> None:
    number = order(market)
    listed = v3(market, {"action": "orders"}, headers={"idempotency-key": "whatever"}).json["orders"]
    assert [row["order"] for row in listed] == [number]


def test_a_status_that_nobody_has_is_refused_in_plain_words(market: Market) -> None:
    answer = v3(market, {"action": "orders", "status": "Completed"})
    assert answer.json["error"] == "The field status is not right: there is no such value"


@pytest.mark.parametrize(
    "fields", [{"limit": 0}, {"limit": 101}, {"since": "yesterday"}, {"status": "active"}, {"cursor": "x"}]
)
def test_bad_filters_are_refused(market: Market, fields: dict[str, Any]) -> None:
    assert v3(market, {"action": "orders", **fields}).status == 400


def test_the_classic_protocol_lists_no_orders(market: Market) -> None:
    for action in ("orders", "usage", "token"):
        assert v2(market, {"action": action}).json == {"error": "Incorrect action"}


# -- odd panels and late answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Incorrect order ID", "Order not eligible for refill.", "The flux capacitor"])
def test_a_refusal_of_a_whole_batch_says_nothing_of_any_order(world: World, text: str) -> None:
    numbers = [world.add(link=f"{LINK}/{n}").order for n in range(2)]
    world.panel.behaviours["refill"] = says({"error": text})
    rows = v3(world, {"action": "refill", "orders": numbers}).json["orders"]
    assert [row["code"] for row in rows] == ["service_unavailable"] * 2


def test_an_action_that_the_panel_does_not_know_is_not_supported_for_all(world: World) -> None:
    numbers = [world.add(link=f"{LINK}/{n}").order for n in range(2)]
    world.panel.behaviours["cancel"] = says({"error": "Incorrect action"})
    rows = v3(world, {"action": "cancel", "orders": numbers}).json["orders"]
    assert [row["code"] for row in rows] == ["not_supported"] * 2


def test_a_reading_of_a_clock_ahead_of_ours_is_not_fresh(world: World) -> None:
    number = world.add().order
    record = world.parts.orders.get("acme", number)
    assert record is not None
    ahead = Reading(status=OrderStatus.PENDING, start_count=None, remains=None, at=world.time.at + 300 * SECOND)
    world.parts.orders.observe(record, ahead, refunded=0, until=ahead.at)
    v3(world, {"action": "status", "order": number})
    assert world.panel.asked("status") == 1


def test_two_refills_that_a_panel_takes_for_one_are_both_answered(world: World) -> None:
    number = world.add().order
    world.panel.behaviours |= {"refill": says({"refill": "7"}), "refill_status": says({"status": "Completed"})}
    refills = [v3(world, {"action": "refill", "order": number}).json["refill"] for _ in range(2)]
    rows = v3(world, {"action": "refill_status", "refills": refills}).json["refills"]
    assert rows == [{"refill": refill, "status": "completed"} for refill in refills]


def test_a_refill_that_cannot_be_written_down_in_time_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    number = world.add().order

    def late(_panel: PretendPanel, _fields: dict[str, str]) -> Reply:
        world.time.at += 27 * SECOND
        return Reply(200, {}, b'{"refill": "7"}')

    world.panel.behaviours["refill"] = late
    with caplog.at_level("ERROR", logger="panelgate"):
        assert v3(world, {"action": "refill", "order": number}).status == 503
    assert "refill not recorded" in caplog.messages


def test_requests_wait_no_longer_for_their_slot_than_reads_do(market: Market) -> None:
    """A cancellation that waits in line must not take the slots that an `add` may have."""
    number = order(market, "smmafrica")
    provider = market.registry.provider("smmafrica")
    pace = market.parts.caller.pace
    for holder in range(12):
        assert pace.reserve(provider, holder=str(holder), latest=market.time.at + 25 * SECOND) is not None
    assert v3(market, {"action": "cancel", "order": number}).status == 503
    service = market.service("smmafrica", "Default")
    bought = v3(market, {"action": "add", "service": service, "link": f"{LINK}/2", "quantity": 500})
    assert bought.status == 200
