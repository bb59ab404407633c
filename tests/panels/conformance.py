"""What every dialect must do. Inherit ``Conformance``, name the dialect and its content type, add transcripts.

The transcripts ``balance``, ``services``, ``add`` and ``status`` must exist: they are the good replies that the
damages below are done to.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.actions import Action, Answer, Balance, Call, Placed, PlaceOrder, Reason, Refused, Services, Status
from chalicelib.errors import UnreadableReply
from chalicelib.panels import DIALECTS, reading
from chalicelib.panels.dialect import Dialect, Reply, Request

from . import transcripts
from .transcripts import KEY, Transcript

ACTIONS = tuple(transcripts.CALLS)
READS = (Action.BALANCE, Action.SERVICES, Action.STATUS)
ANSWERS: Mapping[str, type[Answer]] = {
    Action.BALANCE: Balance,
    Action.SERVICES: Services,
    Action.ADD: Placed,
    Action.STATUS: Status,
}
LARGEST_ID = 10**19 - 1
NOTICE = b"<br />\n<b>Notice</b>:  Undefined index: runs in <b>/var/www/api.php</b> on line <b>87</b><br />\n"
PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking</body></html>"

# Damage that hides nothing: the answer is the same (protocol.md 1.7).
HARMLESS: Mapping[str, Callable[[bytes], bytes]] = {
    "BOM": lambda body: b"\xef\xbb\xbf" + body,
    "two BOMs": lambda body: b"\xef\xbb\xbf\r\n\xef\xbb\xbf" + body,
    "blank lines": lambda body: b"\r\n\n\t " + body + b"\n\n",
    "PHP notice": lambda body: NOTICE + body,
    "PHP notices and a BOM": lambda body: b"\xef\xbb\xbf" + NOTICE * 3 + b"\xef\xbb\xbf" + body,
    "PHP warning in plain text": lambda body: b"\nWarning: Undefined variable $x in /var/www/a.php on line 3\n" + body,
}

# Damage after which nothing can be known.
FATAL: Mapping[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "blank": lambda _: b" \r\n ",
    "BOM alone": lambda _: b"\xef\xbb\xbf",
    "HTML page": lambda _: PAGE,
    "HTML page with the reply in it": lambda body: b"<html>" + body + b"</html>",
    "PHP notice alone": lambda _: NOTICE,
    "PHP fatal error": lambda _: b"<br />\n<b>Fatal error</b>:  Out of memory in <b>/a.php</b> on line <b>1</b><br />",
    "truncated": lambda body: body.strip()[:-1],
    "cut in half": lambda body: body[: len(body) // 2],
    "doubled": lambda body: body + body,
    "HTML after it": lambda body: body + NOTICE,
    "not UTF-8": lambda body: body.replace(b'"', b'"\xff', 1),
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "compressed": lambda _: b"\x1f\x8b\x08\x00\x00",
    "null": lambda _: b"null",
    "true": lambda _: b"true",
    "empty object": lambda _: b"{}",
    "empty text": lambda _: b'""',
    "NaN": lambda body: b'{"order": NaN, "balance": NaN, "status": NaN, "x": ' + body + b"}",
    "Infinity": lambda body: b'{"x": -Infinity, "data": ' + body + b"}",
    "a key twice": lambda body: b'{"x": 1, "x": 2, "data": ' + body + b"}",
    "half a surrogate pair": lambda body: b'{"x": "\\ud83d", "data": ' + body + b"}",
    "nested without end": lambda _: b"[" * 100_000,
    "nested and closed": lambda body: b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b', "data": ' + body + b"}",
    "5000 digits": lambda body: b'{"x": ' + b"9" * 5000 + b', "data": ' + body + b"}",
    "5000 places": lambda body: b'{"x": 0.' + b"9" * 5000 + b', "data": ' + body + b"}",
    "an exponent without end": lambda body: b'{"x": 1e99999999999999999999, "data": ' + body + b"}",
    "text of nobody": lambda _: b'{"error": "The flux capacitor is out of alignment"}',
    "a failure without a word": lambda _: b'{"success": false}',
    "a failed status": lambda _: b'{"status": "fail", "message": "?"}',
    "an empty error": lambda _: b'{"error": {"code": 17}}',
}

# What every panel may say, in each of the ways it is said.
BAD_KEY: Mapping[str, bytes] = {
    "error": b'{"error": "Invalid API key"}',
    "other case": b'{"error": "invalid API key."}',
    "error in data": b'{"status": "error", "data": {"error": "Incorrect API key"}}',
    "errors": b'{"errors": ["Incorrect request or API key"]}',
    "object": b'{"error": {"message": "API key is required"}}',
    "success and msg": b'{"success": false, "msg": "Missing API key"}',
    "success and message": b'{"success": 0, "message": "Invalid or missing API key", "name": "UNAUTHORIZED"}',
    "status and message": b'{"status": "fail", "message": "Invalid API Key"}',
    "list": b'["Invalid API key"]',
    "bare string": b'"Invalid API key"',
    "form": b"error=Invalid+API+key",
}

# reliability.md 5, A13.
BAD_IDS = (
    *(
        "0",
        "-1",
        "-3",
        "null",
        "true",
        "false",
        "1.0",
        "1.5",
        "1e3",
        "NaN",
        "9" * 4000,
        "9" * 5000,
        "10000000000000000000",
    ),
    *("[1]", "[]", "{}", '{"id": 1}', '""', '" "', '"0"', '"-3"', '"007"', '"1.0"', '"1,000"', '"0x1F"', '"12a"'),
    *('"\u0661\u0662"', '"\uff11"', '"1e3"', '"+5"', '"9999999999999999999999"', '"null"', '"\\ud83d"'),
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORDS = st.sampled_from(
    (
        *(
            "error",
            "errors",
            "success",
            "status",
            "message",
            "order",
            "order_id",
            "balance",
            "data",
            "services",
            "charge",
        ),
        *("service", "rate", "min", "max", "name", "amount", "currency", "remains", "start_count", "12345", "1"),
        *("fail", "Invalid API key", "Completed", "0", "-1", "1,234", "$0.50", "10,000", "Empty Data", "USD"),
    )
)
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)
BODIES = st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())
CODES = st.sampled_from((200, 200, 201, 202, 204, 301, 400, 401, 403, 404, 422, 429, 500, 503, 520, 0, 999))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
# One suite runs on many dialects, which is what the health check warns of.
INHERITED = settings(suppress_health_check=[HealthCheck.differing_executors])


class Conformance:
    """The suite; a test class per dialect inherits it."""

    dialect: ClassVar[Dialect]
    content_type: ClassVar[str]
    key_field: ClassVar[str | None] = "key"

    # -- helpers ----------------------------------------------------------------------------------------------

    def transcript(self, name: str) -> Transcript:
        return transcripts.load(self.dialect.name, name)

    def sent(self, request: Request) -> Mapping[str, Any]:
        """Read back what a request carries, the way the panel will."""
        if self.content_type == "application/json":
            fields: dict[str, Any] = json.loads(request.body)
            return fields
        return dict(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))

    def decode(self, call: Call, body: bytes, status: int = 200) -> Answer | None:
        """Return the answer, or None for a reply that cannot be read."""
        try:
            return self.dialect.decode(call, Reply(status, {}, body))
        except UnreadableReply as error:
            cause = str(error)
        assert len(cause) <= 400
        assert cause == reading.plain(cause, 400)
        return None

    # -- the dialect itself -----------------------------------------------------------------------------------

    def test_it_is_registered_under_its_name(self) -> None:
        assert DIALECTS[self.dialect.name] is self.dialect

    def test_its_capabilities_name_the_actions_that_it_translates(self) -> None:
        assert self.dialect.capabilities.actions == set(ACTIONS)
        assert self.dialect.capabilities.burst >= 1
        assert self.dialect.capabilities.interval >= 0

    # -- transcripts ------------------------------------------------------------------------------------------

    def test_transcript_reply(self, transcript: str) -> None:
        case = self.transcript(transcript)
        if "UnreadableReply" in case.answer:
            with pytest.raises(UnreadableReply, match=f"HTTP {case.reply.status}: "):
                self.dialect.decode(case.call, case.reply)
            return
        assert transcripts.written(self.dialect.decode(case.call, case.reply)) == case.answer, case.document

    def test_transcript_request(self, transcript: str) -> None:
        case = self.transcript(transcript)
        request = self.dialect.encode(case.call, KEY)
        assert request.method == "POST"
        assert request.headers["Content-Type"] == self.content_type
        assert case.sends_headers.items() <= request.headers.items()
        if case.sends is not None:
            assert self.sent(request) == case.sends, case.document

    # -- requests ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("action", ACTIONS)
    def test_the_key_is_not_in_the_repr_of_a_request(self, action: str) -> None:
        request = self.dialect.encode(self.transcript(action).call, "canary-7f3a9c")
        assert "canary" not in repr(request)
        assert b"canary-7f3a9c" in request.body + "".join(request.headers.values()).encode()

    @settings(INHERITED)
    @given(link=TEXTS, extra=st.dictionaries(TEXTS, TEXTS, max_size=3))
    def test_what_a_caller_adds_arrives_and_replaces_nothing(self, link: str, extra: dict[str, str]) -> None:
        hostile = {"key": "theirs", "action": "balance", "service": "9", "quantity": "1"}
        call = PlaceOrder(5, link, 100, extra=extra | hostile)
        sent = self.sent(self.dialect.encode(call, KEY))
        own = {"action": "add", "service": 5, "link": link, "quantity": 100}
        own |= {self.key_field: KEY} if self.key_field else {}
        assert {name: str(value) for name, value in sent.items()} == extra | {k: str(v) for k, v in own.items()}

    # -- damage -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("damage", HARMLESS)
    @pytest.mark.parametrize("action", ACTIONS)
    def test_harmless_damage_changes_no_answer(self, action: str, damage: str) -> None:
        case = self.transcript(action)
        answer = self.dialect.decode(case.call, case.reply)
        assert isinstance(answer, ANSWERS[action])
        assert self.decode(case.call, HARMLESS[damage](case.reply.body), case.reply.status) == answer

    @pytest.mark.parametrize("damage", FATAL)
    @pytest.mark.parametrize("action", ACTIONS)
    def test_fatal_damage_is_unreadable(self, action: str, damage: str) -> None:
        case = self.transcript(action)
        assert self.decode(case.call, FATAL[damage](case.reply.body), case.reply.status) is None

    @pytest.mark.parametrize("form", BAD_KEY)
    @pytest.mark.parametrize("status", [200, 400, 401, 403])
    @pytest.mark.parametrize("action", ACTIONS)
    def test_a_rejected_key_is_known_in_every_form(self, action: str, status: int, form: str) -> None:
        answer = self.decode(self.transcript(action).call, BAD_KEY[form], status)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.BAD_KEY

    @pytest.mark.parametrize("status", [301, 302, 307, 500, 502, 503, 504, 520])
    @pytest.mark.parametrize("action", ACTIONS)
    def test_no_refusal_is_believed_at_3xx_or_5xx(self, action: str, status: int) -> None:
        assert self.decode(self.transcript(action).call, BAD_KEY["error"], status) is None

    @pytest.mark.parametrize("status", [301, 401, 403, 404, 500, 503])
    @pytest.mark.parametrize("action", ACTIONS)
    @pytest.mark.parametrize("body", [b"", PAGE, b"{}"], ids=["nothing", "page", "object"])
    def test_a_bare_status_says_nothing(self, action: str, status: int, body: bytes) -> None:
        assert self.decode(self.transcript(action).call, body, status) is None

    @pytest.mark.parametrize("status", [301, 404, 500])
    @pytest.mark.parametrize("action", READS)
    def test_a_read_is_believed_at_2xx_only(self, action: str, status: int) -> None:
        case = self.transcript(action)
        assert self.decode(case.call, case.reply.body, status) is None

    # -- throttling -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("status", "body"),
        [(429, b""), (429, PAGE), (429, b'{"error": "?"}'), (200, b'{"error": "Too many requests"}')],
    )
    @pytest.mark.parametrize("action", ACTIONS)
    def test_throttling_is_a_refusal_where_it_proves_one(self, action: str, status: int, body: bytes) -> None:
        answer = self.decode(self.transcript(action).call, body, status)
        if action == Action.ADD and not self.dialect.capabilities.throttled_means_not_placed:
            assert answer is None
        else:
            assert isinstance(answer, Refused)
            assert answer.reason is Reason.THROTTLED

    # -- orders -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("field", ["order", "order_id"])
    @pytest.mark.parametrize("value", BAD_IDS)
    def test_what_is_no_id_is_no_order(self, value: str, field: str) -> None:
        call = self.transcript(Action.ADD).call
        assert self.decode(call, f'{{"{field}": {value}}}'.encode()) is None

    @pytest.mark.parametrize("value", ["1", '"1"', '" 23501 "', str(LARGEST_ID), f'"{LARGEST_ID}"'])
    def test_an_id_is_a_number_or_its_text(self, value: str) -> None:
        answer = self.decode(self.transcript(Action.ADD).call, f'{{"order": {value}}}'.encode())
        assert isinstance(answer, Placed)
        assert answer.order == int(json.loads(value))
        assert answer.warning is None

    @pytest.mark.parametrize("status", [200, 201, 202, 301, 400, 429, 500, 503])
    @pytest.mark.parametrize(
        "beside", ['"error": "Not enough funds"', '"success": false', '"status": "fail"', '"a": 1']
    )
    def test_an_order_id_is_a_purchase_whatever_stands_beside_it(self, beside: str, status: int) -> None:
        answer = self.decode(self.transcript(Action.ADD).call, f'{{"order": 5, {beside}}}'.encode(), status)
        assert isinstance(answer, Placed)
        assert answer.order == 5
        assert (answer.warning is None) is (beside == '"a": 1' and status < 300)

    @pytest.mark.parametrize("text", ["Order not found", "Incorrect order ID"])
    def test_an_order_not_found_says_nothing_of_a_purchase(self, text: str) -> None:
        assert self.decode(self.transcript(Action.ADD).call, json.dumps({"error": text}).encode()) is None

    def test_a_status_of_another_order_is_not_ours(self) -> None:
        call = self.transcript(Action.STATUS).call
        assert self.decode(call, b'{"order": 999999999, "status": "Completed", "charge": "1"}') is None

    # -- what nobody thought of -------------------------------------------------------------------------------

    @settings(INHERITED, max_examples=150)
    @given(body=BODIES, status=CODES, action=st.sampled_from(ACTIONS))
    def test_any_reply_is_an_answer_of_its_kind_or_unreadable(self, body: bytes, status: int, action: str) -> None:
        answer = self.decode(self.transcript(action).call, body, status)
        assert answer is None or isinstance(answer, Refused | ANSWERS[action])
        if isinstance(answer, Placed):
            assert type(answer.order) is int
            assert 0 < answer.order <= LARGEST_ID
        if isinstance(answer, Refused):
            assert len(answer.text) <= 300

    @settings(INHERITED, max_examples=150)
    @given(action=st.sampled_from(ACTIONS), data=st.data())
    def test_a_good_reply_with_one_value_replaced_raises_nothing_else(self, action: str, data: st.DataObject) -> None:
        case = self.transcript(action)
        whole = json.loads(case.reply.body)
        part = whole[0] if isinstance(whole, list) else whole
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(VALUES)
        answer = self.decode(case.call, json.dumps(whole).encode(), case.reply.status)
        assert answer is None or isinstance(answer, Refused | ANSWERS[action])

    def test_nothing_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            for name in transcripts.names(self.dialect.name):
                case = self.transcript(name)
                self.dialect.encode(case.call, KEY)
                self.decode(case.call, case.reply.body, case.reply.status)
        assert not caplog.records
