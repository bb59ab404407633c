"""What tests can see and change behind the scenes."""

import httpx
import pytest

from sandbox.faults import FAULTS
from sandbox.server import Sandbox
from tests.sandbox.callers import LINK, PANELS, Caller, FakeClock


def test_overview_is_health(sandbox: Sandbox, http: httpx.Client) -> None:
    overview = http.get(f"{sandbox.url}/_admin/").json()
    assert overview["status"] == "ok"
    assert [panel["slug"] for panel in overview["panels"]] == list(PANELS)
    assert overview["panels"][-1]["path"] == "/smmafrica/api/v3"
    assert overview["faults"] == list(FAULTS)


@pytest.mark.parametrize("path", ["smoke/faults", "smosale/smoke", "smosale/faults/1", "smosale/orders/9"])
def test_unknown_paths_are_404(sandbox: Sandbox, http: httpx.Client, path: str) -> None:
    response = http.get(f"{sandbox.url}/_admin/{path}")
    assert response.status_code == 404
    assert set(response.json()) == {"error"}


def test_body_must_be_json(sandbox: Sandbox, http: httpx.Client) -> None:
    assert http.put(f"{sandbox.url}/_admin/smosale/keys", content=b"{").json() == {"error": "the body is no JSON"}


class TestRequests:
    def test_log_every_request_as_received(self, smosale: Caller, clock: FakeClock) -> None:
        smosale.add()
        clock.forward(1)
        smosale.http.post(smosale.url + "?debug=1", content=b"key=wrong&action=services", headers={"X-Test": "Yes"})
        first, second = smosale.admin("GET", "requests")
        assert first["sequence"] == 1
        assert first["order"] == 23501
        assert first["body"].startswith("key=sandbox-smosale-key&service=1") or "action=add" in first["body"]
        assert second["time"] - first["time"] == 1
        assert second["headers"]["x-test"] == "Yes"
        assert (second["method"], second["path"], second["body"]) == (
            "POST",
            "/smosale/api/v2?debug=1",
            "key=wrong&action=services",
        )
        assert (second["action"], second["fault"], second["order"], second["status"]) == ("", None, None, 200)

    def test_filter_and_forget(self, smosale: Caller) -> None:
        smosale.balance()
        smosale.add()
        assert [entry["action"] for entry in smosale.adds()] == ["add"]
        assert [entry["sequence"] for entry in smosale.admin("GET", "requests?since=1")] == [2]
        assert smosale.admin("DELETE", "requests") == []
        assert smosale.admin("GET", "requests") == []
        smosale.balance()
        assert [entry["sequence"] for entry in smosale.admin("GET", "requests")] == [3]

    def test_since_must_be_a_number(self, smosale: Caller) -> None:
        assert smosale.admin_response("GET", "requests?since=x").status_code == 400

    def test_log_other_paths_of_the_panel(self, smosale: Caller) -> None:
        assert smosale.http.get(f"{smosale.sandbox.url}/smosale/").status_code == 404
        assert smosale.admin("GET", "requests")[0]["path"] == "/smosale/"

    def test_panels_do_not_mix(self, smosale: Caller, mysticsmm: Caller) -> None:
        smosale.add()
        assert mysticsmm.admin("GET", "requests") == []
        assert mysticsmm.admin("GET", "orders") == []


class TestOrders:
    def test_are_shown(self, smosale: Caller) -> None:
        order = smosale.add(runs=3, interval=10)
        (shown,) = smosale.admin("GET", "orders")
        assert shown == smosale.admin("GET", f"orders/{order}")
        assert (shown["id"], shown["charge"], shown["stage"], shown["will"]) == (23501, "0.90", "pending", "complete")
        assert shown["details"] == {"runs": "3", "interval": "10"}

    def test_stay_where_they_are_put(self, smosale: Caller, clock: FakeClock) -> None:
        order = smosale.add()
        smosale.admin("POST", f"orders/{order}", {"status": "In progress", "remains": 7, "start_count": 5, "charge": 1})
        clock.forward(1000)
        assert smosale.status(order) == {
            "charge": "1",
            "start_count": "5",
            "status": "In progress",
            "remains": "7",
            "currency": "USD",
        }

    @pytest.mark.parametrize(
        ("change", "balance"),
        [
            ({"status": "Canceled"}, "100.84292"),
            ({"status": "CANCELLED", "remains": 0}, "100.84292"),
            ({"status": "Canceled", "remains": 100}, "100.03292"),
            ({"status": "Partial", "remains": 500}, "100.39292"),
            ({"status": "Refunded"}, "100.84292"),
            ({"status": "Fail"}, "100.84292"),
            ({"status": "Completed"}, "99.94292"),
            ({"status": "Awaiting"}, "99.94292"),
        ],
    )
    def test_are_paid_back_once(self, smosale: Caller, change: dict[str, object], balance: str) -> None:
        order = smosale.add()
        for _ in range(2):
            smosale.admin("POST", f"orders/{order}", change)
            assert smosale.balance() == balance

    def test_show_what_no_real_order_has(self, smosale: Caller) -> None:
        order = smosale.add()
        smosale.admin("POST", f"orders/{order}", {"status": "Awaiting", "remains": "Unknown", "start_count": [1]})
        found = smosale.status(order)
        assert (found["status"], found["remains"], found["start_count"]) == ("Awaiting", "Unknown", [1])
        smosale.admin("POST", f"orders/{order}", {"status": "Pending", "remains": -3, "start_count": None})
        found = smosale.status(order)
        assert (found["status"], found["remains"], found["start_count"]) == ("Pending", "-3", "0")

    def test_put_in_progress_can_still_be_canceled(self, smosale: Caller, clock: FakeClock) -> None:
        order = smosale.add()
        smosale.admin("POST", f"orders/{order}", {"status": "In progress"})
        smosale.ask("cancel", orders=order)
        clock.forward(5)
        assert smosale.status(order)["status"] == "Canceled"
        assert smosale.balance() == "100.84292"

    @pytest.mark.parametrize("body", [{"colour": 1}, [], {"charge": "much"}, {"charge": "NaN"}])
    def test_refuse_nonsense(self, smosale: Caller, body: object) -> None:
        order = smosale.add()
        assert smosale.admin_response("POST", f"orders/{order}", body).status_code == 400


class TestPanel:
    def test_several_keys_are_valid_at_once(self, smosale: Caller) -> None:
        smosale.admin("PUT", "keys", {"keys": ["old", "new"]})
        assert [smosale.ask("balance", key=key).get("error") for key in ("old", "new", smosale.key, "")] == [
            None,
            None,
            "Invalid API key",
            "Invalid API key",
        ]

    @pytest.mark.parametrize("body", [{"keys": "a"}, {"keys": [""]}, {"keys": [1]}, {}])
    def test_keys_are_texts(self, smosale: Caller, body: object) -> None:
        assert smosale.admin_response("PUT", "keys", body).status_code == 400

    def test_balance(self, smosale: Caller) -> None:
        smosale.admin("PUT", "balance", {"balance": "0.0000001"})
        assert smosale.balance() == "0.0000001"
        assert smosale.admin_response("PUT", "balance", {"balance": None}).status_code == 400

    def test_catalog_can_be_replaced(self, smosale: Caller, mysticsmm: Caller) -> None:
        service = {"service": 7, "name": "New", "type": "Default", "category": "C", "rate": "1.5", "min": 1, "max": 9}
        smosale.admin("POST", "services", [service])
        assert [listed["service"] for listed in smosale.ask("services")] == [7]
        assert smosale.ask("add", service=7, link=LINK, quantity=9) == {"order": 23501}
        mysticsmm.admin("POST", "services", [{"service": 3, "name": "N", "rate": "0.05", "min": 1, "max": 2}])
        assert '"rate":0.05,"min":1,' in mysticsmm.post(action="services").text

    @pytest.mark.parametrize("body", [{}, [1], [{"service": 1}], [{"service": "x"}], None])
    def test_catalog_must_be_one(self, smosale: Caller, body: object) -> None:
        assert smosale.admin_response("POST", "services", body).status_code == 400

    @pytest.mark.parametrize("body", [{"rate_limit": 1}, {"mood": True}, []])
    def test_settings_are_known_and_boolean(self, smosale: Caller, body: object) -> None:
        assert smosale.admin_response("PUT", "settings", body).status_code == 400

    def test_reset_is_the_first_day(self, smosale: Caller) -> None:
        before = smosale.admin("GET", "")
        smosale.add()
        smosale.fault("500")
        smosale.admin("PUT", "keys", {"keys": ["x"]})
        smosale.admin("PUT", "settings", {"language_keys": True})
        smosale.admin("POST", "services", [])
        assert smosale.admin("GET", "") != before
        assert smosale.admin("POST", "reset") == before
        assert smosale.add() == "23501"
        assert len(smosale.admin("GET", "requests")) == 1
