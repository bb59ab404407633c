"""The guard: no piece of a known key, in any spelling, leaves in a text that operators read; no key in any other."""

import io
import json
import logging
import secrets
import string
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from chalice.app import Chalice, EventSourceHandler
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import log
from chalicelib.keys import ProviderKey, new_client_key
from chalicelib.panels.dialect import MAX_CATALOG, MAX_REPLY
from chalicelib.redaction import MAX_RUNS, PIECE, REDACTED, Guard, redact, redact_all, redact_body, redact_whole
from tests.api.http import v3
from tests.spellings import ESCAPED, SPELLED, pieces
from tests.world import World, says

# A key that every encoding changes, and that occurs nowhere else.
KEY = "Zq/7x+Wm\"3'p&K<9=tV%u\\RbJ4hN8sLcYd2G"
PLAIN = "b7e2f94c81d64a05a3c6e8d1f7092b5e"


@pytest.fixture(autouse=True)
def _known() -> None:
    ProviderKey(KEY, "1")
    ProviderKey(PLAIN, "1")


@pytest.mark.parametrize("key", [KEY, PLAIN])
@pytest.mark.parametrize("spelling", SPELLED)
def test_a_key_is_taken_out_in_every_spelling(spelling: str, key: str) -> None:
    spelled = SPELLED[spelling](key)
    for cleaned in (
        redact(f"Wrong: {spelled}."),
        redact_whole(f"Wrong: {spelled}."),
        redact_body(f"Wrong: {spelled}.".encode()).decode(),
    ):
        assert REDACTED in cleaned
        assert cleaned.startswith("Wrong: ")
        # Base64 wraps what stands around a key: of that, letters may be left, and of the key less than one.
        assert not pieces(spelled) & pieces(cleaned)


@pytest.mark.parametrize("key", [KEY, PLAIN])
@pytest.mark.parametrize("spelling", ESCAPED)
def test_a_key_is_taken_out_whichever_letters_are_escaped(spelling: str, key: str) -> None:
    spell = ESCAPED[spelling]
    for text in (f"Wrong: {spell(key)}.", json.dumps({"error": f"Wrong: {spell(key)}.", "order": 5})):
        expected = text.replace(json.dumps(spell(key))[1:-1], REDACTED).replace(spell(key), REDACTED)
        assert redact(text) == redact_whole(text) == redact_body(text.encode()).decode() == expected
    for start in range(len(key) - PIECE + 1):
        piece = key[start : start + PIECE]
        if pieces(piece):
            assert redact(f"begins with {spell(piece)}… and ends") == f"begins with {REDACTED}… and ends"


@pytest.mark.parametrize(
    "key", ["ab%41cd1efgh", "ab&amp;cd1efgh", "ab\\u0041cd1efgh", "ab\\\\cd1efgh", "%25252541x1yz"]
)
def test_a_key_that_looks_escaped(key: str) -> None:
    guard = Guard()
    guard.learn(key)
    for spell in (*SPELLED.values(), *ESCAPED.values()):
        assert REDACTED in guard.redact_whole(spell(key))
    assert REDACTED in guard.redact_whole(f"{key[0]}\\u{ord(key[1]):04x}{key[2:]}")


def test_json_stays_json_and_tells_the_rest() -> None:
    for spell in (*SPELLED.values(), *ESCAPED.values()):
        reply = json.dumps({"order": 5, "error": f'Wrong "key": {spell(KEY)}!', "next": [1, "\\", "é"]})
        read = json.loads(redact_body(reply.encode()))
        assert (read["order"], read["next"]) == (5, [1, "\\", "é"])
        assert read["error"].startswith('Wrong "key": ')
        assert REDACTED in read["error"]


@pytest.mark.parametrize(("escape", "layers"), [("%41x", 1), ("\\u0041x", 1), ("\\/x", 1), ("%25252541x", 4)])
def test_a_bomb_of_escapes_is_withheld(escape: str, layers: int) -> None:
    """They count in each layer in which they have to be undone."""
    most = (MAX_RUNS - 1) // layers
    assert redact_body((escape * most + PLAIN).encode()) == (escape * most + REDACTED).encode()
    assert redact_body((escape * (most + 1) + PLAIN).encode()) == REDACTED.encode()


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions of Python a piece of work calls: that is its cost, on any machine."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("size", [MAX_REPLY, MAX_CATALOG])
@pytest.mark.parametrize(
    ("filler", "spell"),
    [
        ("%25252525a", lambda letter: f"%252525{ord(letter):02x}"),
        ("&amp;amp;amp;#65;", lambda letter: f"&amp;amp;amp;#{ord(letter)};"),
    ],
)
def test_a_reply_of_any_size_is_looked_through_in_so_many_steps(
    filler: str, spell: Callable[[str], str], size: int
) -> None:
    """It may come at an order's last moment. Each layer has escapes of the next, and the key is at the end."""
    spelled = "".join(map(spell, PLAIN))
    body = (filler * (size // len(filler)))[: -len(spelled)].encode() + spelled.encode()
    assert redact_body(body).endswith(REDACTED.encode())
    assert calls_of(lambda: redact_body(body)) < 4 * MAX_RUNS


def test_the_largest_catalog_may_be_written_in_escapes() -> None:
    """PHP writes each letter of Cyrillic as six; five thousand rows of it fill all that a catalog may have."""
    row = {"service": 1, "name": "Подписчики", "category": "Инстаграм / Подписчики", "rate": "0.90"}
    row |= {"description": "Качественные подписчики без накрутки, гарантия тридцать дней, без списаний. " * 3}
    rows = json.dumps([row] * 5000).replace("/", "\\/")
    assert 0.8 * MAX_CATALOG < len(rows) < MAX_CATALOG
    assert redact_body(rows.encode()) == rows.encode()
    assert redact_body(rows.replace("0.90", PLAIN, 1).encode()) == rows.replace("0.90", REDACTED, 1).encode()


def test_what_is_escaped_and_no_key_stays_as_it_is() -> None:
    for text in (
        "https://a.b/c?d=%20%41&amp;e",
        '{"a":"\\u00e9\\/"}',
        "100 % \\ & %zz \\u12 &#; é \\ud83d",
        "%5Cu0041",
    ):
        assert redact(text) is text
        assert redact_body(text.encode()) == text.encode()


@pytest.mark.parametrize("spelling", SPELLED)
def test_every_piece_is_taken_out(spelling: str) -> None:
    spelled = SPELLED[spelling](KEY)
    first, last = (6, len(spelled) - 6) if "base64" in spelling else (0, len(spelled))
    for start in range(first, last - PIECE + 1):
        for length in (PIECE, PIECE + 5):
            piece = spelled[start : start + length]
            text = f"{'.' * (start % 7)}begins with {piece}… and ends"  # at any place
            assert not pieces(piece) & pieces(redact(text))


@given(
    st.text(string.ascii_letters + string.digits + string.punctuation, min_size=8, max_size=60), st.text(), st.text()
)
def test_any_key_is_taken_out_wherever_it_stands(key: str, before: str, after: str) -> None:
    guard = Guard()
    guard.learn(key)
    for spelled in (key, json.dumps(key)[1:-1], quote(key, safe="")):
        assert spelled not in guard.redact(before + spelled + after)
        assert spelled not in guard.redact_whole(before + spelled + after)


def test_what_is_no_key_stays_as_it_is() -> None:
    for text in (
        "Quantity less than minimal 50",
        "acme.k3Jd92mX",
        "the key is wrong",
        "monkey=1",
        "https://panel.example/api/v2?action=status&order=12",
        f"{PLAIN[:7]}…",
        "",
    ):
        assert redact(text) == text


def test_a_key_made_of_words_garbles_no_sentence() -> None:
    guard = Guard()
    guard.learn("my-provider-Balance-20261126")
    assert guard.redact("the provider has no Balance on 20261126") == "the provider has no Balance on 20261126"
    assert guard.redact("THE PROVIDER HAS NO BALANCE") == "THE PROVIDER HAS NO BALANCE"
    assert guard.redact("at provider-Balance-2026") == f"at pr{REDACTED}"


def test_what_looks_like_a_key_is_taken_out_although_nobody_knows_it() -> None:
    live, test, token = new_client_key("acme"), f"pg_test_acme_{secrets.token_hex(20)}", f"pgb_{secrets.token_hex(20)}"
    for text, hidden in (
        (f"mine is {live}, and", live),
        (f'"{test}"', test),
        (f"<{token}>", token),
        ("POST /api?key=s3cr3tXYZ&action=add", "s3cr3tXYZ"),
        ("api_token=s3cr3tXYZ", "s3cr3tXYZ"),
        ("Authorization: Bearer s3cr3tXYZ", "s3cr3tXYZ"),
        ("https://me:s3cr3tXYZ@panel.example/", "s3cr3tXYZ"),
    ):
        assert hidden not in redact(text)
        assert REDACTED in redact(text)


def test_structures_are_cleaned_to_their_leaves_and_names() -> None:
    given = {"a": [1, None, True, 1.5, (PLAIN,)], PLAIN: {"b": ValueError(f"no {PLAIN}")}, "c": {PLAIN}}
    assert redact_all(given) == {
        "a": [1, None, True, 1.5, [REDACTED]],
        REDACTED: {"b": f"no {REDACTED}"},
        "c": [REDACTED],
    }


def test_callers_cannot_find_a_key_piece_by_piece() -> None:
    """If pieces vanished from answers, a tenant could guess eight letters at a time, and see when it was right."""
    assert redact_whole(f"https://example.com/{PLAIN[4:20]}") == f"https://example.com/{PLAIN[4:20]}"


def test_an_answer_that_holds_a_key_after_all_is_sent_without_it(world: World) -> None:
    order = v3(world, {"action": "add", "service": 1001, "link": f"https://x.test/{PLAIN}", "quantity": 100}).json[
        "order"
    ]
    listed = v3(world, {"action": "orders"})
    assert [row["link"] for row in listed.json["orders"]] == [f"https://x.test/{REDACTED}"]
    assert listed.json["orders"][0]["order"] == order


def test_a_key_of_another_account_is_taken_out_too(world: World) -> None:
    """A panel may belong to somebody who has another key of ours, or repeat the one that was rotated."""
    world.panel.behaviours["add"] = says({"error": f"Somebody's {PLAIN}, or {PLAIN[3:20]}"})
    v3(world, {"action": "add", "service": 1001, "link": "https://x.test/a", "quantity": 100})
    stored = str(list(world.parts.table.query("T#acme")))
    assert f"Somebody's {REDACTED}, or {REDACTED}" in stored
    assert not pieces(PLAIN) & pieces(stored)


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return what stands in the log by now, of all loggers; the log is as in a Lambda meanwhile."""
    root, names = logging.getLogger(), ("panelgate", "httpx", "httpcore", "boto3", "botocore", "urllib3")
    handlers, levels = root.handlers, {name: logging.getLogger(name).level for name in names}
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log.configure()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_record_that_cannot_be_logged_is_not_shown_instead(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Python would print the record with its arguments, and the traceback that it was logged in."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if isinstance(handler, log.JsonHandler)]
    log.logger.error("%s %d", PLAIN, "three")
    assert lines() == [{"level": "error", "event": "a record could not be logged", "type": "TypeError"}]


def test_whoever_logs_a_key_logs_none(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        raise ValueError(f"no such key: {KEY}")  # noqa: TRY301 - the guard is what is tested
    except ValueError:
        log.logger.exception("broken by %s", PLAIN, extra={"facts": {"cause": [f"it was {quote(KEY)}"]}})
        logging.getLogger("some.library").warning("GET /?key=%s", PLAIN)
    told = lines()
    assert [line["event"] for line in told] == [f"broken by {REDACTED}", f"GET /?{REDACTED}"]
    assert told[0]["cause"] == [f"it was {REDACTED}"]
    assert told[0]["exception"].splitlines()[-1] == f"ValueError: no such key: {REDACTED}"
    for known in (KEY, PLAIN):
        assert not pieces(known) & pieces(json.dumps(told).replace("\\\\", "\\").replace('\\"', '"'))


def test_libraries_do_not_log_requests(lines: Callable[[], list[dict[str, Any]]]) -> None:
    for name in ("httpx", "httpcore.http11", "botocore.endpoint", "boto3", "urllib3.connectionpool"):
        logging.getLogger(name).info("a request with all its headers")
        logging.getLogger(name).debug("a request with all its headers")
    assert lines() == []


def test_what_lambda_logs_of_a_failure_quotes_no_key(lines: Callable[[], list[dict[str, Any]]]) -> None:
    @log.outermost
    def job() -> None:
        raise LookupError(f"nothing under {PLAIN}")

    with pytest.raises(RuntimeError, match=r"^LookupError: nothing under \[redacted\]$") as raised:
        job()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    [told] = lines()
    assert (told["event"], told["type"]) == ("defect", "LookupError")


def test_every_lambda_but_the_api_is_guarded_so(application: Chalice) -> None:
    jobs = {handler.func for handler in application.handler_map.values() if isinstance(handler, EventSourceHandler)}
    assert len(jobs) == len(application.event_sources) > 0
    assert {job.__code__ for job in jobs} == {log.outermost(print).__code__}


def test_a_key_shows_in_no_repr() -> None:
    assert KEY not in repr(ProviderKey(KEY, "1"))
    assert PLAIN not in f"{ProviderKey(PLAIN, '1')}"
