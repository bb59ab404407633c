"""What every dialect must do. Inherit ``Conformance``, name the dialect and its content type, add transcripts.

For every call that a dialect's capabilities allow there must be a transcript by the name of its form: ``balance``,
``services``, ``add``, ``status``, ``status-batch``, ``refill``, ``refill-batch``, ``refill-status``,
``refill-status-batch``, ``cancel``, ``cancel-batch``. Those are the good replies that the damages below are done to,
and the rows of the matrix that is printed when the suite has run; see ``matrix``.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.actions import (
    Action,
    Answer,
    Balance,
    BatchCall,
    Call,
    CancelTaken,
    GetRefills,
    Items,
    Placed,
    PlaceOrder,
    Reason,
    RefillReading,
    RefillTaken,
    Refused,
    Services,
    Status,
)
from chalicelib.errors import UnreadableReply
from chalicelib.panels import DIALECTS, reading
from chalicelib.panels.dialect import (
    MAX_CATALOG,
    MAX_REPLY,
    MAX_STATUSES,
    Capabilities,
    Dialect,
    Reply,
    Request,
    action_of,
    ids_of,
)

from . import transcripts
from .transcripts import KEY, Transcript

ANSWERS: Mapping[str, type[Answer]] = {
    Action.BALANCE: Balance,
    Action.SERVICES: Services,
    Action.ADD: Placed,
    Action.STATUS: Status,
    Action.REFILL: RefillTaken,
    Action.REFILL_STATUS: RefillReading,
    Action.CANCEL: CancelTaken,
}


@dataclass(frozen=True)
class Form:
    """A row of the matrix: an action, asked for one thing or for several."""

    action: Action
    batch: bool

    @property
    def name(self) -> str:
        """The name of the transcript that shows it, and of the test's case."""
        return self.action.value.replace("_", "-") + ("-batch" if self.batch else "")

    @property
    def call(self) -> type[Call] | None:
        """The call, or None where the protocol has none."""
        return (transcripts.BATCHES if self.batch else transcripts.SINGLES).get(self.action)

    @property
    def answer(self) -> type[Answer]:
        return Items if self.batch else ANSWERS[self.action]

    def missing(self, capabilities: Capabilities) -> str | None:
        """Say why a dialect has no such call, or None if it has it."""
        if self.action not in capabilities.actions:
            return "no such action in what is known of it"
        if not self.batch:
            return None
        if self.call is None:
            return f"the protocol has no batch of {self.action.value}"
        return None if self.action in capabilities.batches else "no batch in what is known of it"


FORMS = {
    form.name: form
    for action in transcripts.SINGLES
    for form in (Form(Action(action), batch=False), Form(Action(action), batch=True))
}


LARGEST_ID = 10**19 - 1
NOTICE = b"<br />\n<b>Notice</b>:  Undefined index: runs in <b>/var/www/api.php</b> on line <b>87</b><br />\n"
PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking</body></html>"


@dataclass(frozen=True)
class Damage:
    """Something that is done to a good reply, and what must come of it.

    ``column`` is where the matrix shows it, ``status`` the HTTP status that it comes with (None: the reply's own).
    What must come of it is a refusal for the ``reason``, the good reply's own answer (``same``), or else nothing.
    """

    column: str
    change: Callable[[bytes], bytes]
    reason: Reason | None = None
    status: int | None = None
    same: bool = False


def _instead(body: bytes) -> Callable[[bytes], bytes]:
    return lambda _good: body


def _every_value(value: object) -> Callable[[bytes], bytes]:
    def replaced(part: object) -> object:
        if isinstance(part, list):
            return [replaced(inner) for inner in part]
        return {name: replaced(inner) for name, inner in part.items()} if isinstance(part, dict) else value

    return lambda body: json.dumps(replaced(json.loads(body))).encode()


# Columns of the matrix: what the damages under each have in common (protocol.md 1.6 and 1.7, reliability.md 5 D).
COLUMNS: Mapping[str, str] = {
    "bom": "byte order marks and blank lines before the JSON",
    "php": "PHP notices and warnings before the JSON",
    "html": "an HTML page at HTTP 200, alone, around the reply or after it",
    "none": "no body",
    "cut": "a truncated or doubled body",
    "enc": "a body in no or in the wrong encoding",
    "type": "JSON of the wrong types",
    "nan": "NaN and Infinity",
    "dup": "a key twice in one object",
    "deep": "nesting without end",
    "big": "numbers without end",
    "err": "an error text that no table knows, a failure without a word",
    "key": "a rejected key, as an error in its many shapes, at HTTP 200, 400, 401 and 403",
    "msg": "a rejected key as success: false with msg, message or name",
    "fail": "a rejected key as status: fail with a message",
    "form": "a rejected key as a form-encoded error",
    "429": "throttling by HTTP status or by text; an add so answered is refused only where the document promises that",
    "3xx": "redirects, with and without a known error",
    "4xx": "HTTP 401, 403 and 404 without a word that a table knows",
    "5xx": "HTTP 500, 502, 503, 504 and 520, with and without a known error",
}

# Damage that hides nothing: the answer is the same (protocol.md 1.7).
HARMLESS: Mapping[str, Damage] = {
    "BOM": Damage("bom", lambda body: b"\xef\xbb\xbf" + body, same=True),
    "two BOMs": Damage("bom", lambda body: b"\xef\xbb\xbf\r\n\xef\xbb\xbf" + body, same=True),
    "blank lines": Damage("bom", lambda body: b"\r\n\n\t " + body + b"\n\n", same=True),
    "PHP notice": Damage("php", lambda body: NOTICE + body, same=True),
    "PHP notices and a BOM": Damage(
        "php", lambda body: b"\xef\xbb\xbf" + NOTICE * 3 + b"\xef\xbb\xbf" + body, same=True
    ),
    "PHP warning in plain text": Damage(
        "php", lambda body: b"\nWarning: Undefined variable $x in /var/www/a.php on line 3\n" + body, same=True
    ),
}

# Damage after which nothing can be known.
FATAL: Mapping[str, Damage] = {
    "nothing": Damage("none", _instead(b"")),
    "blank": Damage("none", _instead(b" \r\n ")),
    "BOM alone": Damage("none", _instead(b"\xef\xbb\xbf")),
    "HTML page": Damage("html", _instead(PAGE)),
    "HTML page with the reply in it": Damage("html", lambda body: b"<html>" + body + b"</html>"),
    "PHP notice alone": Damage("html", _instead(NOTICE)),
    "PHP fatal error": Damage(
        "html", _instead(b"<br />\n<b>Fatal error</b>:  Out of memory in <b>/a.php</b> on line <b>1</b><br />")
    ),
    "HTML after it": Damage("html", lambda body: body + NOTICE),
    "truncated": Damage("cut", lambda body: body.strip()[:-1]),
    "cut in half": Damage("cut", lambda body: body[: len(body) // 2]),
    "doubled": Damage("cut", lambda body: body + body),
    "not UTF-8": Damage("enc", lambda body: body.replace(b'"', b'"\xff', 1)),
    "UTF-16": Damage("enc", lambda body: body.decode().encode("utf-16")),
    "compressed": Damage("enc", _instead(b"\x1f\x8b\x08\x00\x00")),
    "half a surrogate pair": Damage("enc", lambda body: b'{"x": "\\ud83d", "data": ' + body + b"}"),
    "null": Damage("type", _instead(b"null")),
    "true": Damage("type", _instead(b"true")),
    "empty object": Damage("type", _instead(b"{}")),
    "empty text": Damage("type", _instead(b'""')),
    "nulls": Damage("type", _every_value(None)),
    "empty objects": Damage("type", _every_value({})),
    "lists of lists": Damage("type", _every_value([[]])),
    "NaN": Damage("nan", lambda body: b'{"order": NaN, "balance": NaN, "status": NaN, "x": ' + body + b"}"),
    "Infinity": Damage("nan", lambda body: b'{"x": -Infinity, "data": ' + body + b"}"),
    "a key twice": Damage("dup", lambda body: b'{"x": 1, "x": 2, "data": ' + body + b"}"),
    "nested without end": Damage("deep", _instead(b"[" * 100_000)),
    "nested and closed": Damage(
        "deep", lambda body: b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b', "data": ' + body + b"}"
    ),
    "5000 digits": Damage("big", lambda body: b'{"x": ' + b"9" * 5000 + b', "data": ' + body + b"}"),
    "5000 places": Damage("big", lambda body: b'{"x": 0.' + b"9" * 5000 + b', "data": ' + body + b"}"),
    "an exponent without end": Damage("big", lambda body: b'{"x": 1e99999999999999999999, "data": ' + body + b"}"),
    "text of nobody": Damage("err", _instead(b'{"error": "The flux capacitor is out of alignment"}')),
    "a failure without a word": Damage("err", _instead(b'{"success": false}')),
    "a failed status": Damage("err", _instead(b'{"status": "fail", "message": "?"}')),
    "an empty error": Damage("err", _instead(b'{"error": {"code": 17}}')),
}

# What every panel may say, in each of the ways it is said.
BAD_KEY: Mapping[str, tuple[str, bytes]] = {
    "error": ("key", b'{"error": "Invalid API key"}'),
    "other case": ("key", b'{"error": "invalid API key."}'),
    "error in data": ("key", b'{"status": "error", "data": {"error": "Incorrect API key"}}'),
    "errors": ("key", b'{"errors": ["Incorrect API key"]}'),
    "object": ("key", b'{"error": {"message": "API key is required"}}'),
    "list": ("key", b'["Invalid API key"]'),
    "bare string": ("key", b'"Invalid API key"'),
    "SmartPanel": ("key", b'{"error": "API is Disable for this user or User Not Found! Contact the Support"}'),
    "success and msg": ("msg", b'{"success": false, "msg": "Missing API key"}'),
    "success and message": (
        "msg",
        b'{"success": 0, "message": "Invalid or missing API key", "name": "UNAUTHORIZED"}',
    ),
    "status and message": ("fail", b'{"status": "fail", "message": "Invalid API Key"}'),
    "form": ("form", b"error=Invalid+API+key"),
}
KNOWN = BAD_KEY["error"][1]
REJECTED: Mapping[str, Damage] = {
    f"{shape} at {status}": Damage(column, _instead(body), Reason.BAD_KEY, status)
    for shape, (column, body) in BAD_KEY.items()
    for status in (200, 400, 401, 403)
}
THROTTLED: Mapping[str, Damage] = {
    "429": Damage("429", _instead(b""), Reason.THROTTLED, 429),
    "429 with a page": Damage("429", _instead(PAGE), Reason.THROTTLED, 429),
    "429 with any error": Damage("429", _instead(b'{"error": "?"}'), Reason.THROTTLED, 429),
    "a text at 200": Damage("429", _instead(b'{"error": "Too many requests"}'), Reason.THROTTLED, 200),
}
# The status alone says nothing, and at 3xx and 5xx no text is believed either.
BODIES: Mapping[str, bytes] = {"nothing": b"", "a page": PAGE, "an object": b"{}"}
SERVERS: Mapping[str, Damage] = {
    f"{status} with {what}": Damage(column, _instead(body), None, status)
    for column, statuses, bodies in (
        ("3xx", (301, 302, 307), {**BODIES, "a known error": KNOWN}),
        ("4xx", (401, 403, 404), BODIES),
        ("5xx", (500, 502, 503, 504, 520), {**BODIES, "a known error": KNOWN}),
    )
    for status in statuses
    for what, body in bodies.items()
}
DAMAGES = {**HARMLESS, **FATAL, **REJECTED, **THROTTLED, **SERVERS}

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
        *("refill", "cancel", "orders", "id", "package", "order_status", "price", "type", "ok", "Active", "posts"),
        *("service", "rate", "min", "max", "name", "amount", "currency", "remains", "start_count", "12345", "1"),
        *("fail", "Invalid API key", "Completed", "0", "-1", "1,234", "$0.50", "10,000", "Empty Data", "USD"),
    )
)
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)
REPLIES = st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())
CODES = st.sampled_from((200, 200, 201, 202, 204, 301, 400, 401, 403, 404, 422, 429, 500, 503, 520, 0, 999))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
# One suite runs on many dialects, which is what the health check warns of.
INHERITED = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])


class Conformance:
    """The suite; a test class per dialect inherits it."""

    dialect: ClassVar[Dialect]
    content_type: ClassVar[str | None]
    key_field: ClassVar[str | None] = "key"
    method: ClassVar[str] = "POST"
    # The names of an `add`'s fields, where they are not the protocol's.
    names: ClassVar[Mapping[str, str]] = {}
    folder: ClassVar[Path] = transcripts.FOLDER

    # -- helpers ----------------------------------------------------------------------------------------------

    @classmethod
    def forms(cls) -> list[str]:
        """Name the calls that the dialect has."""
        return [name for name, form in FORMS.items() if not form.missing(cls.dialect.capabilities)]

    def transcript(self, name: str) -> Transcript:
        return transcripts.load(self.dialect.name, name, self.folder)

    def sent(self, request: Request) -> Mapping[str, Any]:
        """Read back what a request carries, the way the panel will."""
        if self.content_type == "application/json":
            fields: dict[str, Any] = json.loads(request.body)
            return fields
        text = request.body.decode() if self.method == "POST" else request.query
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))

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

    def test_its_capabilities_name_actions_of_the_protocol(self) -> None:
        capabilities = self.dialect.capabilities
        assert {Action.BALANCE, Action.SERVICES, Action.ADD, Action.STATUS} <= capabilities.actions <= {*ANSWERS}
        assert capabilities.batches <= capabilities.actions & {*transcripts.BATCHES}
        assert capabilities.burst >= 1
        assert capabilities.interval >= 0
        assert (capabilities.types or set()) <= {*reading.TYPES.values()}

    # -- the matrix -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage(self, form: str, damage: str, record_property: Callable[[str, object], None]) -> None:
        done, row = DAMAGES[damage], FORMS[form]
        record_property("matrix", [self.dialect.name, form, done.column])
        case = self.transcript(form)
        body = done.change(case.reply.body)
        answer = self.decode(case.call, body, done.status or case.reply.status)
        if done.same:
            good = self.dialect.decode(case.call, case.reply)
            assert isinstance(good, row.answer)
            assert answer == good
            return
        promised = row.action is not Action.ADD or self.dialect.capabilities.throttled_means_not_placed
        expected = None if done.reason is Reason.THROTTLED and not promised else done.reason
        assert (answer.reason if isinstance(answer, Refused) else answer) == expected

    def test_what_it_does_not_support(self, missing_form: str, record_property: Callable[[str, object], None]) -> None:
        form = FORMS[missing_form]
        record_property("matrix", [self.dialect.name, missing_form, form.missing(self.dialect.capabilities)])
        if form.call is None:
            return
        call = _example(form)
        assert not self.dialect.capabilities.can(call)
        with pytest.raises(ValueError, match=self.dialect.name):
            self.dialect.encode(call, KEY)

    # -- transcripts ------------------------------------------------------------------------------------------

    def test_transcript_of_form_is_a_good_one(self, form: str) -> None:
        case = self.transcript(form)
        assert isinstance(case.call, FORMS[form].call or ())
        assert isinstance(self.dialect.decode(case.call, case.reply), FORMS[form].answer)

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
        assert request.method == self.method
        assert request.headers.get("Content-Type") == self.content_type
        assert case.sends_headers.items() <= request.headers.items()
        if case.sends is not None:
            assert self.sent(request) == case.sends, case.document

    # -- requests ---------------------------------------------------------------------------------------------

    def test_only_a_catalog_and_statuses_may_be_large(self, form: str) -> None:
        request = self.dialect.encode(self.transcript(form).call, KEY)
        most = {Action.SERVICES: MAX_CATALOG, Action.STATUS: MAX_STATUSES}
        assert request.max_reply == most.get(action_of(self.transcript(form).call), MAX_REPLY)

    def test_the_key_is_not_in_the_repr_of_a_request(self, form: str) -> None:
        request = self.dialect.encode(self.transcript(form).call, "canary-7f3a9c")
        assert "canary" not in repr(request)
        carried = request.body + request.query.encode() + "".join(request.headers.values()).encode()
        assert b"canary-7f3a9c" in carried

    @settings(INHERITED)
    @given(link=TEXTS, extra=st.dictionaries(TEXTS, TEXTS, max_size=3))
    def test_what_a_caller_adds_arrives_and_replaces_nothing(self, link: str, extra: dict[str, str]) -> None:
        hostile = {"key": "theirs", "action": "balance", "service": "9", "quantity": "1", "api_token": "theirs"}
        hostile |= dict.fromkeys(self.names.values(), "1") | {"runs": "7", "interval": "7"}
        foreign = {name: value for name, value in extra.items() if name not in {*hostile, *self.names}}
        call = PlaceOrder(5, link, 100, extra=foreign | hostile)
        sent = self.sent(self.dialect.encode(call, KEY))
        own = {"action": "add", "service": 5, "link": link, "quantity": 100}
        named = {self.names.get(name, name): str(value) for name, value in own.items()}
        named |= {self.key_field: KEY} if self.key_field else {}
        assert {name: str(value) for name, value in sent.items()} == foreign | named

    def test_what_an_order_lacks_is_not_sent(self) -> None:
        call = PlaceOrder(5, extra={"link": "https://example.com", "quantity": "7"})
        names = {"action", self.names.get("service", "service"), self.key_field} - {None}
        assert self.sent(self.dialect.encode(call, KEY)).keys() == names

    # -- statuses of HTTP -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [301, 404, 500])
    def test_a_read_is_believed_at_2xx_only(self, form: str, status: int) -> None:
        case = self.transcript(form)
        if not isinstance(case.call, PlaceOrder):
            assert self.decode(case.call, case.reply.body, status) is None

    # -- several in one call ----------------------------------------------------------------------------------

    def test_an_item_that_cannot_be_read_takes_no_other_with_it(self, form: str) -> None:
        case = self.transcript(form)
        for broken, number in _broken(case):
            answer, whole = self.decode(case.call, broken), self.dialect.decode(case.call, case.reply)
            assert isinstance(answer, Items)
            assert isinstance(whole, Items)
            assert answer.items == {other: item for other, item in whole.items.items() if other != number}

    def test_items_of_others_are_not_ours(self, form: str) -> None:
        case = self.transcript(form)
        if isinstance(case.call, BatchCall):
            ids = (*ids_of(case.call)[1:], 424242)
            answer = self.decode(_asking(case.call, ids), case.reply.body, case.reply.status)
            assert isinstance(answer, Items)
            assert answer.items.keys() == set(ids_of(case.call)[1:])

    # -- orders -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("field", ["order", "order_id"])
    @pytest.mark.parametrize("value", BAD_IDS)
    def test_what_is_no_id_is_no_order(self, value: str, field: str) -> None:
        call = self.transcript("add").call
        assert self.decode(call, f'{{"{field}": {value}}}'.encode()) is None

    @pytest.mark.parametrize("value", ["1", '"1"', '" 23501 "', str(LARGEST_ID), f'"{LARGEST_ID}"'])
    def test_an_id_is_a_number_or_its_text(self, value: str) -> None:
        answer = self.decode(self.transcript("add").call, f'{{"order": {value}}}'.encode())
        assert isinstance(answer, Placed)
        assert answer.order == int(json.loads(value))
        assert answer.warning is None

    @pytest.mark.parametrize("status", [200, 201, 202, 301, 400, 429, 500, 503])
    @pytest.mark.parametrize(
        "beside", ['"error": "Not enough funds"', '"success": false', '"status": "fail"', '"a": 1']
    )
    def test_an_order_id_is_a_purchase_whatever_stands_beside_it(self, beside: str, status: int) -> None:
        answer = self.decode(self.transcript("add").call, f'{{"order": 5, {beside}}}'.encode(), status)
        assert isinstance(answer, Placed)
        assert answer.order == 5
        assert (answer.warning is None) is (beside == '"a": 1' and status < 300)

    @pytest.mark.parametrize(
        "text",
        [
            "Order not found",
            "Incorrect order ID",
            "Refill not found",
            "Order not eligible for refill.",
            "Order cannot be canceled",
        ],
    )
    def test_an_order_not_found_says_nothing_of_a_purchase(self, text: str) -> None:
        assert self.decode(self.transcript("add").call, json.dumps({"error": text}).encode()) is None

    def test_a_status_of_another_order_is_not_ours(self) -> None:
        case = self.transcript("status")
        other = {**json.loads(case.reply.body), "order": 999999999}
        assert self.decode(case.call, json.dumps(other).encode()) is None
        assert self.decode(case.call, json.dumps([other]).encode()) is None

    # -- what nobody thought of -------------------------------------------------------------------------------

    @settings(INHERITED, max_examples=300)
    @given(body=REPLIES, status=CODES, data=st.data())
    def test_any_reply_is_an_answer_of_its_kind_or_unreadable(
        self, body: bytes, status: int, data: st.DataObject
    ) -> None:
        form = data.draw(st.sampled_from(self.forms()))
        call = self.transcript(form).call
        answer = self.decode(call, body, status)
        assert answer is None or isinstance(answer, Refused | FORMS[form].answer)
        if isinstance(answer, Placed):
            assert type(answer.order) is int
            assert 0 < answer.order <= LARGEST_ID
        if isinstance(answer, Items):
            assert set(ids_of(call)) >= answer.items.keys() > set()
        for refused in _refusals(answer):
            assert len(refused.text) <= 300

    @settings(INHERITED, max_examples=300)
    @given(data=st.data())
    def test_a_good_reply_with_one_value_replaced_raises_nothing_else(self, data: st.DataObject) -> None:
        form = data.draw(st.sampled_from(self.forms()))
        case = self.transcript(form)
        whole = json.loads(case.reply.body)
        part = whole
        while data.draw(st.booleans()) or not isinstance(part, dict):
            inner = [*part.values()] if isinstance(part, dict) else part
            deeper = [value for value in inner if isinstance(value, dict | list) and value]
            if not deeper:
                break
            part = data.draw(st.sampled_from(deeper))
        if isinstance(part, dict):
            part[data.draw(st.sampled_from(sorted(part)))] = data.draw(VALUES)
        answer = self.decode(case.call, json.dumps(whole).encode(), case.reply.status)
        assert answer is None or isinstance(answer, Refused | FORMS[form].answer)

    def test_nothing_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            for name in transcripts.names(self.dialect.name, self.folder):
                case = self.transcript(name)
                self.dialect.encode(case.call, KEY)
                self.decode(case.call, case.reply.body, case.reply.status)
        assert not caplog.records


def _example(form: Form) -> Call:
    name = "refill" if form.action is Action.REFILL_STATUS else "order"
    asked = {f"{name}s": [12, 13]} if form.batch else {name: 12}
    return transcripts.call({"action": form.action, **asked})


def _asking(call: BatchCall, ids: tuple[int, ...]) -> Call:
    return GetRefills(ids) if isinstance(call, GetRefills) else type(call)(ids)


def _refusals(answer: Answer | None) -> Iterator[Refused]:
    answers = answer.items.values() if isinstance(answer, Items) else [answer]
    return (item for item in answers if isinstance(item, Refused))


def _broken(case: Transcript) -> Iterator[tuple[bytes, int]]:
    """Yield a batch's reply with one item made unreadable, for every item; nothing for a call about one thing."""
    if not isinstance(case.call, BatchCall):
        return
    whole, ids = json.loads(case.reply.body), ids_of(case.call)
    named = "refill" if action_of(case.call) is Action.REFILL_STATUS else "order"
    for number in ids:
        if isinstance(whole, dict):
            yield json.dumps({**whole, str(number): {"error": "?"}}).encode(), number
        else:
            rest = [{named: number, "error": "?"} if item[named] == number else item for item in whole]
            yield json.dumps(rest).encode(), number
