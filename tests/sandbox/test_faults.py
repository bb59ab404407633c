"""Each fault does to the caller what it says, and processes the order or not as its table says."""

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from sandbox import faults
from sandbox.faults import FAULTS
from sandbox.server import Sandbox
from tests.sandbox.callers import LINK, PANELS, Caller, FakeClock

PURCHASE: dict[str, Any] = {"action": "add", "service": 1, "link": LINK, "quantity": 1000}

QUICK: dict[str, dict[str, float]] = {
    "slow": {"seconds": 0.05},
    "late": {"seconds": 0.05},
    "silent": {"seconds": 0.1},
    "silent_before": {"seconds": 0.1},
    "slow_headers": {"seconds": 0.0005},
    "slow_body": {"seconds": 0.0005},
    "endless": {"seconds": 0.1},
}
"""The same faults in less time."""

NO_ANSWER = {
    "silent": httpx.RemoteProtocolError,
    "silent_before": httpx.RemoteProtocolError,
    "lost": httpx.RemoteProtocolError,
    "reset": httpx.ReadError,
    "reset_after": httpx.ReadError,
    "truncated": httpx.RemoteProtocolError,
    "endless": httpx.RemoteProtocolError,
}

STATUS = {"429": 429, "500": 500, "502": 502, "503": 503, "504": 504, "redirect": 301, "pending": 202}


def error(sentence: str) -> Callable[[bytes], bool]:
    return lambda body: json.loads(body) == {"error": sentence}


def placed(body: bytes) -> bool:
    return bool(json.loads(body)["order"] == 1000000)


BODIES: dict[str, Callable[[bytes], bool]] = {
    "slow": placed,
    "late": placed,
    "429": error("Too many requests"),
    "500": lambda body: b"<h1>Internal Server Error" in body,
    "502": lambda body: b"<h1>Bad Gateway" in body,
    "503": lambda body: b"<h1>Service Unavailable" in body,
    "504": lambda body: b"<h1>Gateway Time-out" in body,
    "html": lambda body: b"Just a moment..." in body,
    "empty": lambda body: body == b"",
    "bom": lambda body: body.startswith(b"\xef\xbb\xbf{") and placed(body.removeprefix(b"\xef\xbb\xbf")),
    "php_notice": lambda body: body.startswith(b"<br />\n<b>Notice</b>") and placed(body.splitlines()[-1]),
    "garbage_json": lambda body: body.startswith(b'{"order"') and b"}" not in body,
    "echo_key": error("Invalid something for key sandbox-smmafrica-key"),
    "echo_key_ok": lambda body: placed(body) and json.loads(body)["debug_key"] == "sandbox-smmafrica-key",
    "slow_headers": placed,
    "slow_body": placed,
    "huge": lambda body: len(body) == 12 * 1024 * 1024 and placed(body),
    "redirect": lambda body: body == b"",
    "invalid_key": error("Invalid API key"),
    "no_funds": error("Insufficient balance"),
    "unknown_error": error(faults.UNKNOWN),
    "wrong_type": lambda body: json.loads(body) == {"order": None, "charged": None},
    "deep_json": lambda body: body.startswith(b'{"order":[[[[') and body.count(b"[") == 100_000 and b"1000000" in body,
    "pending": lambda body: placed(body) and json.loads(body)["pending_confirmation"] is True,
}


def test_every_fault_is_expected_below() -> None:
    assert set(FAULTS) == set(BODIES) | set(NO_ANSWER)


def test_the_table_in_the_docstring_tells_the_truth() -> None:
    rows = re.findall(r"^\| `(\w+)` *\| (yes|no)\b", faults.__doc__ or "", re.MULTILINE)
    assert {name: word == "yes" for name, word in rows} == {name: kind.processed for name, kind in FAULTS.items()}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, smmafrica: Caller) -> None:
    smmafrica.fault(name, count=1, **QUICK.get(name, {}))
    if name in NO_ANSWER:
        with pytest.raises(NO_ANSWER[name]):
            smmafrica.post(**PURCHASE)
    else:
        response = smmafrica.post(**PURCHASE)
        assert response.status_code == STATUS.get(name, 200)
        assert BODIES[name](response.content)
    (entry,) = smmafrica.adds()
    order = 1000000 if FAULTS[name].processed else None
    assert (entry["fault"], entry["order"]) == (name, order)
    assert entry["status"] == (STATUS.get(name, 200) if FAULTS[name].answers else None)
    assert len(smmafrica.admin("GET", "orders")) == (order is not None)
    assert smmafrica.post(**PURCHASE).status_code == 200, "count 1 must be used up"


class TestAnswersThatNeverCome:
    @pytest.mark.parametrize("name", ["silent", "silent_before"])
    def test_silence_lasts_until_the_client_closes(self, smosale: Caller, name: str) -> None:
        smosale.fault(name)
        with pytest.raises(httpx.ReadTimeout):
            smosale.http.post(smosale.url, data={"key": smosale.key, **PURCHASE}, timeout=0.1)

    def test_silence_ends_when_the_sandbox_stops(self, smosale: Caller, sandbox: Sandbox) -> None:
        smosale.fault("silent")
        with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as connection:
            connection.sendall(b"GET /smosale/api/v2?action=balance HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.05)
            started = time.monotonic()
            sandbox.stop()
            assert time.monotonic() - started < 5

    @pytest.mark.parametrize("name", ["slow_headers", "slow_body"])
    def test_drips_outlast_a_timeout_per_read(self, smosale: Caller, name: str) -> None:
        smosale.fault(name, seconds=0.01)
        started = time.monotonic()
        response = smosale.http.post(smosale.url, data={"key": smosale.key, "action": "balance"}, timeout=0.2)
        assert time.monotonic() - started > 0.3
        assert response.json()["currency"] == "USD"

    def test_endless_body_goes_on_past_any_cap(self, smosale: Caller) -> None:
        smosale.fault("endless")
        with smosale.http.stream("POST", smosale.url, data={"key": smosale.key, "action": "balance"}) as response:
            received = 0
            for chunk in response.iter_raw():
                received += len(chunk)
                if received > 200_000:
                    break
        assert received > 200_000

    def test_late_processes_after_the_caller_is_gone(self, smosale: Caller) -> None:
        smosale.fault("late", seconds=0.3)
        with pytest.raises(httpx.ReadTimeout):
            smosale.http.post(smosale.url, data={"key": smosale.key, **PURCHASE}, timeout=0.1)
        assert smosale.admin("GET", "orders") == []
        assert smosale.adds()[0]["order"] is None
        end = time.monotonic() + 5
        while not smosale.admin("GET", "orders") and time.monotonic() < end:
            time.sleep(0.02)
        assert smosale.adds()[0]["order"] == 23501


class TestOrdering:
    def test_only_the_action_is_met(self, smosale: Caller) -> None:
        smosale.fault("500", action="add")
        assert smosale.ask("balance")["currency"] == "USD"
        assert smosale.post(**PURCHASE).status_code == 500

    def test_faults_queue_up(self, smosale: Caller) -> None:
        smosale.fault("500", count=2)
        smosale.fault("502", count=1)
        assert [smosale.post(**PURCHASE).status_code for _ in range(4)] == [500, 500, 502, 200]
        assert smosale.admin("GET", "faults") == []

    def test_without_count_until_cleared(self, smosale: Caller) -> None:
        smosale.fault("no_funds")
        assert all(smosale.ask("balance") == {"error": "Not enough funds on balance"} for _ in range(3))
        smosale.admin("DELETE", "faults")
        assert smosale.balance() == "100.84292"

    def test_a_gateway_error_may_hide_an_order(self, smosale: Caller) -> None:
        smosale.fault("502", processed=True)
        assert smosale.post(**PURCHASE).status_code == 502
        assert smosale.adds()[0]["order"] == 23501

    def test_a_lost_answer_may_be_to_nothing(self, smosale: Caller) -> None:
        smosale.fault("lost", processed=False)
        with pytest.raises(httpx.RemoteProtocolError):
            smosale.post(**PURCHASE)
        assert smosale.adds()[0]["order"] is None

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ({"fault": "earthquake"}, "no fault 'earthquake'; there are slow, late, silent"),
            ({}, "no fault None; there are slow"),
            ([], "the body must be a JSON object"),
            ({"fault": "500", "times": 1}, "a fault has no 'times'"),
            ({"fault": "500", "count": 0}, "'count' must be a whole number above 0"),
            ({"fault": "500", "count": True}, "'count' must be a whole number above 0"),
            ({"fault": "slow", "seconds": "1"}, "'seconds' must be a number of seconds"),
            ({"fault": "500", "action": 1}, "'action' must be"),
            ({"fault": "500", "processed": 1}, "'processed' must be true or false"),
            ({"fault": "bom", "processed": False}, "'bom' changes the panel's own answer"),
            ({"fault": "slow", "processed": False}, "'slow' changes the panel's own answer"),
            ({"fault": "pending"}, "'pending' exists only at smmafrica"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, smosale: Caller, body: object, sentence: str) -> None:
        response = smosale.admin_response("POST", "faults", body)
        assert response.status_code == 400
        assert response.json()["error"].startswith(sentence)


class TestDetails:
    @pytest.mark.parametrize("value", [None, True, [], {}, "abc", "", 0, -1, 1.5, 10**30])
    def test_wrong_type_takes_a_value(self, smosale: Caller, value: object) -> None:
        smosale.fault("wrong_type", value=value)
        assert smosale.post(**PURCHASE).json() == {"order": value}
        assert smosale.ask("services") == value

    def test_echoed_key_is_in_body_and_header(self, smosale: Caller) -> None:
        smosale.fault("echo_key_ok")
        response = smosale.post(action="services")
        assert response.headers["x-debug-key"] == smosale.key
        assert all(service["debug_key"] == smosale.key for service in response.json())

    def test_echoed_key_cannot_break_the_header(self, smosale: Caller) -> None:
        smosale.fault("echo_key_ok")
        assert smosale.post(key="a\r\nSet-Cookie: b", action="balance").headers["x-debug-key"] == "a Set-Cookie: b"

    def test_mysticsmm_refuses_in_its_own_way(self, mysticsmm: Caller) -> None:
        mysticsmm.fault("unknown_error", count=1)
        mysticsmm.fault("invalid_key", count=1)
        assert [mysticsmm.post(**PURCHASE).status_code for _ in range(2)] == [400, 401]

    def test_a_followed_redirect_is_logged(self, smosale: Caller) -> None:
        smosale.fault("redirect", count=1)
        followed = smosale.http.post(smosale.url, data={"key": smosale.key, "action": "balance"}, follow_redirects=True)
        assert followed.status_code == 404
        log = smosale.admin("GET", "requests")
        assert [(entry["method"], entry["path"]) for entry in log] == [
            ("POST", "/smosale/api/v2"),
            ("GET", "/smosale/elsewhere"),
        ]

    def test_pending_is_queued_until_confirmed(self, smmafrica: Caller, clock: FakeClock) -> None:
        smmafrica.fault("pending", count=1)
        assert smmafrica.ask("balance")["currency"] == "USD"
        order = smmafrica.add()
        assert smmafrica.status(order)["status"] == "queued"
        clock.forward(10)
        assert smmafrica.status(order)["status"] == "Processing"

    def test_pending_leaves_a_refusal_alone(self, smmafrica: Caller) -> None:
        smmafrica.fault("pending")
        assert smmafrica.post(**PURCHASE | {"quantity": 1}).json() == {"error": "Quantity less than minimal 50"}

    @pytest.mark.parametrize("slug", PANELS)
    def test_every_panel_survives_every_fault(self, slug: str, sandbox: Sandbox, http: httpx.Client) -> None:
        caller = Caller(slug, http, sandbox)
        for name, kind in FAULTS.items():
            if kind.only is None:
                caller.fault(name, count=1, **QUICK.get(name, {}))
                with pytest.raises(NO_ANSWER[name]) if name in NO_ANSWER else nullcontext():
                    caller.post(action="services")
        assert caller.ask("balance")["currency"] == "USD"
