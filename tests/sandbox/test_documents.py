"""Each panel answers as its own document shows: the same keys, the same types, the same words."""

import json
from decimal import Decimal

import httpx
import pytest

from sandbox.server import Sandbox
from tests.sandbox.callers import LINK, PANELS, Caller, FakeClock

TEMPLATE_SERVICES = [
    {
        "service": 1,
        "name": "Followers",
        "type": "Default",
        "category": "First Category",
        "rate": "0.90",
        "min": "50",
        "max": "10000",
        "refill": True,
        "cancel": True,
    },
    {
        "service": 2,
        "name": "Comments",
        "type": "Custom Comments",
        "category": "Second Category",
        "rate": "8",
        "min": "10",
        "max": "1500",
        "refill": False,
        "cancel": True,
    },
]


class TestTemplateFamily:
    def test_lists_the_documents_services(self, template: Caller) -> None:
        assert template.ask("services")[:2] == TEMPLATE_SERVICES

    def test_first_order_is_the_documents(self, template: Caller) -> None:
        response = template.post(action="add", service=1, link=LINK, quantity=100)
        assert (response.status_code, response.text) == (200, '{"order":23501}')
        assert response.headers["content-type"] == "application/json"

    def test_status_is_five_strings(self, template: Caller, clock: FakeClock) -> None:
        order = template.add(LINK + "/partial")
        clock.forward(60)
        status = template.status(order)
        assert status == {
            "charge": "0.63",
            "start_count": status["start_count"],
            "status": "Partial",
            "remains": "300",
            "currency": "USD",
        }
        assert int(status["start_count"]) > 0

    def test_batch_status_is_an_object_with_each_error_in_its_slot(self, template: Caller, clock: FakeClock) -> None:
        first, second = template.add(), template.add()
        clock.forward(40)
        batch = template.ask("status", orders=f"{first}, 10,{second},{first},x")
        assert list(batch) == [first, "10", second, "x"]
        assert batch["10"] == batch["x"] == {"error": "Incorrect order ID"}
        assert batch[second]["status"] == "In progress"

    def test_refill_is_a_string_alone_and_a_number_in_a_batch(self, template: Caller, clock: FakeClock) -> None:
        order, other = template.add(), template.add()
        clock.forward(60)
        assert template.ask("refill", order=order) == {"refill": "1"}
        assert template.ask("refill", orders=f"{other},3") == [
            {"order": int(other), "refill": 2},
            {"order": 3, "refill": {"error": "Incorrect order ID"}},
        ]

    def test_refill_status(self, template: Caller, clock: FakeClock) -> None:
        orders = template.add(), template.add(LINK + "/norefill")
        clock.forward(60)
        for order in orders:
            template.ask("refill", order=order)
        assert template.ask("refill_status", refill=1) == {"status": "Pending"}
        clock.forward(10)
        assert template.ask("refill_status", refill=1) == {"status": "In progress"}
        clock.forward(30)
        assert template.ask("refill_status", refills="1,2,3") == [
            {"refill": 1, "status": "Completed"},
            {"refill": 2, "status": "Rejected"},
            {"refill": 3, "status": {"error": "Refill not found"}},
        ]
        assert template.ask("refill_status", refill=3) == {"error": "Refill not found"}

    def test_balance_is_a_string(self, template: Caller) -> None:
        assert template.post(action="balance").text == '{"balance":"100.84292","currency":"USD"}'

    def test_answers_an_unknown_key_at_200(self, template: Caller) -> None:
        response = template.post(key="x", action="balance")
        assert (response.status_code, response.json()) == (200, {"error": "Invalid API key"})

    def test_reads_the_query_string(self, template: Caller) -> None:
        response = template.http.get(template.url, params={"key": template.key, "action": "balance"})
        assert response.json()["balance"] == "100.84292"

    def test_does_not_see_a_json_body(self, template: Caller) -> None:
        response = template.http.post(template.url, json={"key": template.key, "action": "balance"})
        assert response.json() == {"error": "Invalid API key"}

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({}, "Incorrect request"),
            ({"action": "sing"}, "Incorrect action"),
            ({"action": "status"}, "Incorrect order ID"),
            ({"action": "status", "orders": ","}, "Incorrect request"),
            ({"action": "status", "orders": ",".join(map(str, range(101)))}, "Incorrect request"),
            ({"action": "refill", "order": "9"}, "Incorrect order ID"),
        ],
    )
    def test_errors_in_requests(self, template: Caller, fields: dict[str, str], sentence: str) -> None:
        response = template.post(**fields)
        assert (response.status_code, response.json()) == (200, {"error": sentence})

    def test_no_id_is_too_odd(self, template: Caller) -> None:
        odd = ("9" * 5000, "-1", "1.5", "\u0661", "\x00")
        assert template.ask("status", orders=",".join(odd)) == {
            number: {"error": "Incorrect order ID"} for number in odd
        }
        refills = template.ask("refill_status", refills=",".join(odd))
        assert [item["refill"] for item in refills] == list(odd)

    def test_a_hundred_ids_pass(self, template: Caller) -> None:
        assert len(template.ask("status", orders=",".join(map(str, range(100))))) == 100


class TestSmosale:
    def test_cancel_takes_orders_and_gives_an_array(self, smosale: Caller) -> None:
        order = smosale.add()
        assert smosale.ask("cancel", orders=f"9,{order}") == [
            {"order": 9, "cancel": {"error": "Incorrect order ID"}},
            {"order": int(order), "cancel": 1},
        ]
        assert smosale.ask("cancel", order=order) == {"error": "Incorrect request"}

    @pytest.mark.parametrize("slug", ["smmrich", "smmleaf"])
    def test_only_smosale_can_cancel(self, slug: str, sandbox: Sandbox, http: httpx.Client) -> None:
        caller = Caller(slug, http, sandbox)
        assert caller.ask("cancel", orders=caller.add()) == {"error": "Incorrect action"}


class TestMysticsmm:
    def test_lists_the_documents_service_with_numbers(self, mysticsmm: Caller) -> None:
        response = mysticsmm.post(action="services")
        assert response.json()[0] == {
            "service": 1,
            "name": "Instagram Followers - Premium",
            "category": "Instagram",
            "rate": 2.50,
            "min": 100,
            "max": 100000,
            "refill": True,
            "cancel": False,
            "dripfeed": False,
            "currency": "USD",
        }
        assert '"rate":2.50,' in response.text

    def test_add_is_201(self, mysticsmm: Caller) -> None:
        response = mysticsmm.post(action="add", service=1, link=LINK, quantity=1000)
        assert (response.status_code, response.text) == (201, '{"order":12345}')

    def test_status(self, mysticsmm: Caller, clock: FakeClock) -> None:
        order = mysticsmm.add()
        before = mysticsmm.status(order)
        assert before == {"charge": 2.50, "status": "PENDING", "currency": "USD"}
        clock.forward(60)
        after = mysticsmm.status(order)
        assert after == {**before, "status": "COMPLETED", "start_count": after["start_count"], "remains": 0}
        assert isinstance(after["start_count"], int)

    @pytest.mark.parametrize(
        ("fields", "status", "reply"),
        [
            ({"quantity": 99}, 400, {"error": "Quantity must be between 100 and 100000"}),
            ({"quantity": 100001}, 400, {"error": "Quantity must be between 100 and 100000"}),
            ({"quantity": "1000"}, 400, {"error": "Invalid quantity"}),
            ({"quantity": 100000}, 400, {"error": "Insufficient balance in wallet."}),
            (
                {"service": 77},
                500,
                {"success": False, "name": "SERVICE_NOT_FOUND", "message": "Service not found or unauthorized"},
            ),
            ({"service": "1"}, 400, {"error": "Missing required parameters"}),
            ({"link": ""}, 400, {"error": "Invalid link"}),
            ({"key": "wrong"}, 401, {"error": "Invalid API key"}),
            ({"action": "refill"}, 400, {"error": "Invalid action"}),
            ({"action": "cancel"}, 400, {"error": "Invalid action"}),
            ({"action": "status"}, 400, {"error": "Missing required parameters"}),
            ({"action": "status", "order": 1}, 400, {"error": "Order not found"}),
        ],
    )
    def test_errors(self, mysticsmm: Caller, fields: dict[str, object], status: int, reply: object) -> None:
        response = mysticsmm.post(**{"action": "add", "service": 1, "link": LINK, "quantity": 1000, **fields})
        assert (response.status_code, response.json()) == (status, reply)

    def test_takes_json_only(self, mysticsmm: Caller) -> None:
        form = mysticsmm.http.post(mysticsmm.url, data={"key": mysticsmm.key, "action": "balance"})
        assert form.status_code == 400
        assert mysticsmm.http.get(mysticsmm.url).status_code == 405

    def test_balance_is_a_string_with_cents(self, mysticsmm: Caller) -> None:
        assert mysticsmm.post(action="balance").text == '{"balance":"150.00","currency":"USD"}'


class TestSmmafrica:
    def test_lists_the_documents_service(self, smmafrica: Caller) -> None:
        assert smmafrica.ask("services")[0] == {
            "service": 1,
            "name": "Service Name",
            "rate": "0.90",
            "min": "50",
            "max": "10000",
            "category": "First Category",
            "description": "Service Description",
            "refill": True,
            "cancel": True,
            "drop_rate": "Almost No",
            "start_time": "2 mins",
            "speed": "12 mins",
            "reliability": "Poor",
        }

    def test_takes_a_bearer_instead_of_a_key(self, smmafrica: Caller) -> None:
        headers = {"Authorization": f"Bearer {smmafrica.key}"}
        response = smmafrica.http.post(smmafrica.url, json={"action": "balance"}, headers=headers)
        assert response.text == '{"balance":100.84292,"currency":"USD"}'

    def test_add_tells_the_charge(self, smmafrica: Caller) -> None:
        fields = {"service": 3, "link": LINK, "quantity": 1000, "goal_key": "launch", "source_flow": "api_v3"}
        assert smmafrica.post(action="add", **fields).text == '{"order":1000000,"charged":5.85}'

    def test_status_has_the_same_shape_always(self, smmafrica: Caller, clock: FakeClock) -> None:
        order = smmafrica.add()
        pending = smmafrica.status(order)
        assert pending == {"order": 1000000, "status": "pending", "start_count": 0, "remains": 1000, "charge": 0.9}
        clock.forward(30)
        assert smmafrica.status(order)["status"] == "Processing"
        clock.forward(30)
        assert smmafrica.status(order)["status"] == "completed"
        assert smmafrica.status(order).keys() == pending.keys()

    def test_refill_has_no_id(self, smmafrica: Caller, clock: FakeClock) -> None:
        order = smmafrica.add()
        clock.forward(60)
        assert smmafrica.ask("refill", order=order) == {"order": 1000000, "success": "Refill request accepted."}
        assert smmafrica.ask("refill_status", refill=1) == {"error": "Invalid action"}

    def test_cancel_is_single(self, smmafrica: Caller) -> None:
        order = smmafrica.add()
        assert smmafrica.ask("cancel", order=order) == {"order": 1000000, "success": "Cancellation request accepted."}

    @pytest.mark.parametrize("action", ["status", "refill", "cancel"])
    def test_unknown_order(self, smmafrica: Caller, action: str) -> None:
        assert smmafrica.ask(action, order=5) == {"error": "Order not found"}

    def test_a_lone_surrogate_is_a_link_like_any_other(self, smmafrica: Caller, clock: FakeClock) -> None:
        body = b'{"key":"%b","action":"add","service":1,"quantity":50,"link":"\\ud800"}' % smmafrica.key.encode()
        order = smmafrica.http.post(smmafrica.url, content=body).json()["order"]
        clock.forward(60)
        assert smmafrica.status(order)["status"] == "completed"
        assert smmafrica.admin("GET", "orders")[0]["link"] == "\ud800"

    def test_unknown_key(self, smmafrica: Caller) -> None:
        assert smmafrica.ask("services", key="no") == {"error": "Invalid API key"}

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"quantity": 49}, "Quantity less than minimal 50"),
            ({"quantity": 10001}, "Quantity more than maximum 10000"),
            ({"quantity": None}, "Incorrect quantity"),
            ({"service": 77}, "Incorrect service ID"),
            ({"link": None}, "Incorrect link"),
            ({"service": 6, "quantity": 4000, "link": "a"}, None),
        ],
    )
    def test_add_is_checked(self, smmafrica: Caller, fields: dict[str, object], sentence: str | None) -> None:
        reply = smmafrica.ask("add", **{"service": 1, "link": LINK, "quantity": 1000, **fields})
        assert reply.get("error") == sentence


@pytest.mark.parametrize("slug", PANELS)
def test_every_reply_is_plain_json_without_charset(slug: str, sandbox: Sandbox, http: httpx.Client) -> None:
    response = Caller(slug, http, sandbox).post(action="balance")
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.content, parse_float=Decimal)["currency"] == "USD"


@pytest.mark.parametrize("slug", PANELS)
@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b"[]", b'"a"', b"%00=%ff&key=", b"{"])
def test_no_body_breaks_a_panel(slug: str, body: bytes, sandbox: Sandbox, http: httpx.Client) -> None:
    caller = Caller(slug, http, sandbox)
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        response = http.post(caller.url, content=body, headers={"Content-Type": kind})
        assert set(response.json()) == {"error"}
