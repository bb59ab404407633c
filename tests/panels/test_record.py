"""The recorder, against the pretend panels over a real socket."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chalicelib.redaction import learn
from sandbox.server import Sandbox
from tests.sandbox.callers import Caller

from . import record, transcripts
from .test_perfectpanel import TestPerfectPanel as PerfectPanelSuite

ROOT = Path(__file__).parents[2]
CANARY = "canary/7f3a+9c==&x"
SPELLINGS = ("canary", "7f3a", "Y2FuYXJ5")


@pytest.fixture
def panel() -> Iterator[Caller]:
    """Return a pretend panel that takes the canary for a key and repeats it in every answer."""
    with Sandbox(rate_limits=False) as sandbox, httpx.Client(trust_env=False, timeout=10) as http:
        caller = Caller("smosale", http, sandbox)
        caller.admin("PUT", "keys", {"keys": [CANARY]})
        caller.fault("echo_key_ok")
        yield caller


def run(panel: Caller, name: str, call: object, folder: Path, *more: str, key: str = CANARY) -> int:
    written = ["perfectpanel", panel.url, name, json.dumps(call), "--folder", str(folder), *more]
    return record.main([*written, "--local"], ask=lambda: key)


def adds(panel: Caller) -> int:
    return len(panel.adds())


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("balance", {"action": "balance"}),
        ("services", {"action": "services"}),
        ("status", {"action": "status", "order": 99}),
        ("status-batch", {"action": "status", "orders": [98, 99]}),
        ("refill-status", {"action": "refill_status", "refill": 1}),
    ],
)
def test_what_it_writes_is_a_transcript_without_key_and_host(
    panel: Caller, tmp_path: Path, name: str, call: object
) -> None:
    assert run(panel, name, call, tmp_path) == 0
    text = (tmp_path / "perfectpanel" / f"{name}.txt").read_text()
    assert not any(piece in text for piece in (*SPELLINGS, "127.0.0.1"))

    class Recorded(PerfectPanelSuite):
        folder = tmp_path

    Recorded().test_transcript_reply(name)
    Recorded().test_transcript_request(name)
    assert transcripts.load("perfectpanel", name, tmp_path).reply.status == 200


def test_an_echoed_key_is_replaced_by_the_transcripts_own(panel: Caller, tmp_path: Path) -> None:
    assert run(panel, "balance", {"action": "balance"}, tmp_path) == 0
    body = json.loads(transcripts.load("perfectpanel", "balance", tmp_path).reply.body)
    assert body["debug_key"] == transcripts.KEY


@pytest.mark.parametrize("fault", ["echo_key", "html", "429", "500", "redirect", "bom", "empty"])
def test_replies_that_are_none_are_recorded_too(panel: Caller, tmp_path: Path, fault: str) -> None:
    panel.admin("DELETE", "faults")
    panel.fault(fault)
    assert run(panel, "balance", {"action": "balance"}, tmp_path) == 0
    text = (tmp_path / "perfectpanel" / "balance.txt").read_text()
    assert not any(piece in text for piece in SPELLINGS)
    PerfectPanelSuite.test_transcript_reply(_in(tmp_path), "balance")


def _in(path: Path) -> PerfectPanelSuite:
    class Recorded(PerfectPanelSuite):
        folder = path

    return Recorded()


def test_what_changes_something_needs_to_be_wanted(
    panel: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = {"action": "add", "service": 1, "link": "https://example.com/a", "quantity": 1000}
    for call in (order, {"action": "refill", "order": 1}, {"action": "cancel", "orders": [1]}):
        assert run(panel, "wanted", call, tmp_path) == 1
        assert "--buy" in capsys.readouterr().err
    assert adds(panel) == 0
    assert run(panel, "wanted", order, tmp_path, "--buy") == 0
    assert adds(panel) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("balance", [], "no call"),
        ("balance", {"order": 1}, "no call"),
        ("balance", {"action": "balances"}, "no call"),
        ("status", {"action": "status", "order": 1, "x": 2}, "no call"),
        ("../balance", {"action": "balance"}, "name"),
    ],
    ids=str,
)
def test_wrong_use_is_said_and_writes_nothing(
    panel: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, object, str]
) -> None:
    name, call, said = wrong
    assert run(panel, name, call, tmp_path) == 1
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("key", ["short", "", "with space in it"])
def test_what_is_no_key_is_not_sent(
    panel: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert run(panel, "balance", {"action": "balance"}, tmp_path, key=key) == 1
    assert "provider key" in capsys.readouterr().err
    assert panel.admin("GET", "requests") == []


def test_a_call_that_the_dialect_lacks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["mysticsmm", "http://127.0.0.1:9/", "x", '{"action": "status", "orders": [1, 2]}', "--local"]
    assert record.main([*asked, "--folder", str(tmp_path)], ask=lambda: CANARY) == 1
    assert "mysticsmm has no such call" in capsys.readouterr().err


def test_nothing_is_written_over(panel: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(panel, "balance", {"action": "balance"}, tmp_path) == 0
    assert run(panel, "balance", {"action": "balance"}, tmp_path) == 1
    assert "there is a transcript" in capsys.readouterr().err


def test_a_panel_on_this_machine_needs_to_be_named_so(
    panel: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["perfectpanel", panel.url, "balance", '{"action": "balance"}', "--folder", str(tmp_path)]
    assert record.main(asked, ask=lambda: CANARY) == 1
    assert "URL not allowed" in capsys.readouterr().err


def test_a_lost_answer_is_said(panel: Caller, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panel.admin("DELETE", "faults")
    panel.fault("lost")
    assert run(panel, "balance", {"action": "balance"}, tmp_path) == 1
    assert capsys.readouterr().err.startswith("record: ")


def test_the_command_reads_the_key_from_standard_input(panel: Caller, tmp_path: Path) -> None:
    arguments = ["perfectpanel", panel.url, "balance", '{"action": "balance"}', "--folder", str(tmp_path), "--local"]
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.panels.record", *arguments],
        input=f"{CANARY}\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "balance.txt: read it before you add it" in done.stdout
    assert "canary" not in done.stdout + done.stderr


URL = "https://api.Smo-Panel.com:8443/api/v2"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'"https://api.smo-panel.com/x"', b'"https://panel.example/x"'),
        (b'"https:\\/\\/WWW.SMO-PANEL.COM\\/x"', b'"https:\\/\\/WWW.panel.example\\/x"'),
        (b'"mail help@smo-panel.com"', b'"mail help@panel.example"'),
        (b'"IP not allowed: 203.0.113.77."', b'"IP not allowed: 192.0.2.1."'),
        (b'"from 2a01:4f8::77:1 and ::ffff:198.51.100.7"', b'"from 2001:db8::1 and 2001:db8::1"'),
        (b'"at 12:30:45, version 1.2.3, 1.234.567.89"', b'"at 12:30:45, version 1.2.3, 1.234.567.89"'),
        (b'{"order": 5, "balance": "100.84292"}', b'{"order": 5, "balance": "100.84292"}'),
        (b'"canary%2F7f3a%2B9c%3D%3D%26x"', b'"YOUR_API_KEY"'),
        (b'"canary\\/7f3a+9c==&x"', b'"YOUR_API_KEY"'),
        (b'["\\u0063anary/7f3a\\u002b9c==&x"]', b'["YOUR_API_KEY"]'),
    ],
)
def test_scrubbing(body: bytes, expected: bytes) -> None:
    learn(CANARY)
    assert record.scrubbed(body, URL) == expected


@pytest.mark.parametrize(
    "body",
    [f'"{CANARY}"'.encode("utf-16"), f'"{CANARY}"'.encode("utf-16-le")],
)
def test_a_key_that_cannot_be_scrubbed_stops_the_recording(body: bytes) -> None:
    learn(CANARY)
    with pytest.raises(record.CannotRecord, match="still holds the key"):
        record.scrubbed(body, URL)


def test_a_name_in_unicode_is_scrubbed_in_each_spelling() -> None:
    name = "панель.рф"
    for spelled in (name.encode(), name.encode("idna"), json.dumps(name)[1:-1].encode()):
        body = record.scrubbed(b'"%b"' % spelled, f"https://{name}/api/v2")
        assert body == b'"panel.example"'
