"""Limits, hostile requests, what survives a restart, and the command."""

import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sandbox import journal
from sandbox.__main__ import main
from sandbox.server import MAX_BODY, Sandbox
from sandbox.store import StoreError
from tests.sandbox.callers import PANELS, Caller, FakeClock


class TestPace:
    @pytest.fixture
    def limited(self, clock: FakeClock, http: httpx.Client) -> Caller:
        # Started by each test, so that it can choose the panel.
        return Caller("mysticsmm", http, Sandbox(clock=clock))

    def test_mysticsmm_takes_one_call_per_second(self, limited: Caller, clock: FakeClock) -> None:
        with limited.sandbox:
            codes = []
            for pause in (0, 0.89, 0.02, 0.5, 0.5):
                clock.forward(pause)
                codes.append(limited.post(action="balance").status_code)
            assert codes == [200, 429, 200, 429, 200]

    def test_smmafrica_takes_five(self, limited: Caller, clock: FakeClock) -> None:
        with limited.sandbox:
            caller = Caller("smmafrica", limited.http, limited.sandbox)
            assert [caller.post(action="balance").status_code for _ in range(6)] == [200] * 5 + [429]
            clock.forward(0.9)
            response = caller.post(action="balance")
            assert response.status_code == 200

    def test_template_panels_have_none(self, limited: Caller) -> None:
        with limited.sandbox:
            caller = Caller("smosale", limited.http, limited.sandbox)
            assert {caller.post(action="balance").status_code for _ in range(10)} == {200}

    def test_is_counted_by_key_and_can_be_switched_off(self, limited: Caller) -> None:
        with limited.sandbox:
            assert limited.post(action="balance").status_code == 200
            assert limited.post(action="balance", key="other").status_code == 401
            assert limited.post(action="balance").json() == {"error": "Too many requests"}
            limited.admin("PUT", "settings", {"rate_limit": False})
            assert limited.post(action="balance").status_code == 200

    def test_a_call_too_many_uses_up_no_fault_and_places_nothing(self, limited: Caller, clock: FakeClock) -> None:
        with limited.sandbox:
            limited.fault("500", action="add", count=1)
            limited.balance()
            assert limited.post(action="add", service=1, link="a", quantity=100).status_code == 429
            clock.forward(1)
            assert limited.post(action="add", service=1, link="a", quantity=100).status_code == 500
            assert [entry["status"] for entry in limited.adds()] == [429, 500]


class TestRequests:
    def test_a_body_may_have_two_megabytes(self, smosale: Caller) -> None:
        fits = smosale.http.post(smosale.url, content=b"a" * MAX_BODY)
        assert fits.status_code == 200
        assert smosale.http.post(smosale.url, content=b"a" * (MAX_BODY + 1)).status_code == 413
        (entry,) = smosale.admin("GET", "requests")
        assert len(entry["body"]) == journal.BODY_KEPT

    def test_a_body_must_announce_its_length(self, smosale: Caller) -> None:
        assert smosale.http.post(smosale.url, content=iter([b"a"])).status_code == 411
        with socket.create_connection(("127.0.0.1", int(smosale.sandbox.url.rpartition(":")[2]))) as connection:
            connection.sendall(b"POST /smosale/api/v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize("path", ["/", "/nowhere/api/v2", "/smosale", "//", "/_admin"])
    def test_other_paths_are_404(self, smosale: Caller, path: str) -> None:
        assert smosale.http.post(smosale.sandbox.url + path).status_code == 404

    def test_connections_are_kept(self, smosale: Caller) -> None:
        first = smosale.post(action="balance").extensions["network_stream"].get_extra_info("client_addr")
        second = smosale.post(action="balance").extensions["network_stream"].get_extra_info("client_addr")
        assert first == second


class TestSandbox:
    def test_stops_twice_and_starts_again(self, clock: FakeClock, http: httpx.Client) -> None:
        sandbox = Sandbox(clock=clock)
        with pytest.raises(RuntimeError):
            _ = sandbox.url
        sandbox.stop()
        for order in ("23501", "23502"):
            with sandbox:
                assert Caller("smosale", http, sandbox).add() == order
        sandbox.stop()

    @pytest.mark.parametrize("speed", [0, -1, float("nan")])
    def test_time_must_run(self, speed: float) -> None:
        with pytest.raises(ValueError, match="speed"):
            Sandbox(speed=speed)


class TestState:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "deep" / "sandbox.state"

    def test_everything_survives(self, file: Path, clock: FakeClock, http: httpx.Client) -> None:
        with Sandbox(state_file=file, clock=clock, rate_limits=False) as first:
            for slug in PANELS:
                caller = Caller(slug, http, first)
                order = caller.add("https://x.test/partial")
                caller.add()
                caller.admin("POST", f"orders/{int(order) + 1}", {"status": "Awaiting"})
                caller.fault("500", action="add", count=3)
                caller.admin("PUT", "keys", {"keys": [caller.key, "second"]})
                caller.admin("PUT", "settings", {"refuse_duplicate_links": True})
            seen = [_everything(Caller(slug, http, first)) for slug in PANELS]
        with Sandbox(state_file=file, clock=clock, rate_limits=False) as second:
            callers = [Caller(slug, http, second) for slug in PANELS]
            assert [_everything(caller) for caller in callers] == seen
            clock.forward(60)
            assert callers[0].status("23501")["status"] == "Partial"
            assert callers[0].status("23502")["status"] == "Awaiting"

    def test_refills_and_subscriptions_survive(self, file: Path, clock: FakeClock, http: httpx.Client) -> None:
        with Sandbox(state_file=file, clock=clock) as first:
            caller = Caller("smosale", http, first)
            order = caller.add()
            parent = caller.add(service=10, username="a", min=10, max=10, delay=0, posts=3)
            clock.forward(60)
            caller.ask("refill", order=order)
            assert caller.status(parent)["posts"] == "1"
        with Sandbox(state_file=file, clock=clock) as second:
            caller = Caller("smosale", http, second)
            clock.forward(60)
            assert caller.ask("refill_status", refill=1) == {"status": "Completed"}
            assert caller.status(parent)["posts"] == "3"

    def test_is_written_while_running(self, file: Path, clock: FakeClock, http: httpx.Client) -> None:
        with Sandbox(state_file=file, clock=clock) as first:
            Caller("smosale", http, first).add()
            end = time.monotonic() + 10
            while not _count(file, "orders") and time.monotonic() < end:
                time.sleep(0.05)
            assert _count(file, "orders") == _count(file, "requests") == 1

    def test_reset_and_forgotten_requests_are_gone(self, file: Path, clock: FakeClock, http: httpx.Client) -> None:
        for resource, method in (("requests", "DELETE"), ("reset", "POST")):
            with Sandbox(state_file=file, clock=clock, rate_limits=False) as running:
                Caller("mysticsmm", http, running).balance()
            assert _count(file, "requests") == 1
            with Sandbox(state_file=file, clock=clock, rate_limits=False) as running:
                caller = Caller("mysticsmm", http, running)
                caller.admin(method, resource)
                assert caller.admin("GET", "requests") == []
            assert _count(file, "requests") == 0

    def test_log_is_bounded(self, file: Path, clock: FakeClock, http: httpx.Client) -> None:
        with Sandbox(state_file=file, clock=clock) as running:
            Caller("smosale", http, running).balance()
            running.panels["smosale"].journal.last = journal.KEPT
        assert _count(file, "requests") == 1
        with Sandbox(state_file=file, clock=clock) as running:
            Caller("smosale", http, running).balance()
            assert running.panels["smosale"].journal.entries.maxlen == journal.KEPT
        assert _count(file, "requests") == 1

    def test_is_private(self, file: Path, clock: FakeClock) -> None:
        Sandbox(state_file=file, clock=clock)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_refuses_a_file_that_is_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("Dear diary, " * 100)
        with pytest.raises(StoreError, match="no state file"):
            Sandbox(state_file=tmp_path / "text")

    def test_refuses_another_version(self, file: Path) -> None:
        Sandbox(state_file=file)
        with sqlite3.connect(file) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(StoreError, match="another version"):
            Sandbox(state_file=file)


class TestCommand:
    def test_runs_until_told_to_end(self, tmp_path: Path, http: httpx.Client) -> None:
        for order, end in ((23501, signal.SIGTERM), (23502, signal.SIGINT)):
            command = [sys.executable, "-m", "sandbox", "--port", "0", "--state", str(tmp_path / "state")]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
                assert process.stdout is not None
                line = process.stdout.readline().strip()
                assert line.startswith("sandbox listening on http://127.0.0.1:")
                url = line.rpartition(" ")[2] + "/smosale/api/v2"
                fields = {"key": "sandbox-smosale-key", "action": "add", "service": 1, "link": "a", "quantity": 50}
                assert http.post(url, data=fields).json() == {"order": order}
                process.send_signal(end)
                assert process.wait(timeout=10) == 0
                assert process.stderr is not None
                assert process.stderr.read() == ""

    def test_says_why_it_cannot_start(self, smosale: Caller, capsys: pytest.CaptureFixture[str]) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            assert main(["--port", smosale.sandbox.url.rpartition(":")[2]]) == 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert "sandbox: " in capsys.readouterr().err


def _everything(caller: Caller) -> list[object]:
    return [caller.admin("GET", resource) for resource in ("", "faults", "requests", "orders", "services", "settings")]


def _count(file: Path, table: str) -> int:
    db = sqlite3.connect(file)
    try:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - the tests' own names
    finally:
        db.close()
    return int(count)
