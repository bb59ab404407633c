"""What can be made to go wrong.

| fault          | order processed | what the caller sees                                                           |
|----------------|-----------------|--------------------------------------------------------------------------------|
| `slow`         | yes, at arrival | the normal answer after `seconds` (5)                                          |
| `late`         | yes, afterwards | the same; processed only then, even if the caller is gone                      |
| `silent`       | yes             | nothing, until it closes or `seconds` (60) are over                            |
| `silent_before`| no              | the same                                                                       |
| `lost`         | yes             | the connection closed without an answer                                        |
| `reset`        | no              | the connection reset                                                           |
| `reset_after`  | yes             | the same                                                                       |
| `429`          | no              | HTTP 429, "Too many requests", `Retry-After: 1`                                |
| `500`          | no              | HTTP 500 with a short HTML page                                                |
| `502`          | no              | HTTP 502 with a short HTML page                                                |
| `503`          | no              | HTTP 503 with a short HTML page                                                |
| `504`          | no              | HTTP 504 with a short HTML page                                                |
| `html`         | no              | HTTP 200, an HTML page "Just a moment..."                                      |
| `empty`        | yes             | HTTP 200 and no body                                                           |
| `bom`          | yes             | the normal answer after a UTF-8 byte order mark                                |
| `php_notice`   | yes             | the normal answer after a PHP notice in HTML                                   |
| `truncated`    | yes             | half of the body that Content-Length promises, then closed                     |
| `garbage_json` | yes             | a body that starts like JSON and is none                                       |
| `echo_key`     | no              | an error sentence that repeats the caller's key                                |
| `echo_key_ok`  | yes             | the normal answer with the caller's key in a field and in a header             |
| `slow_headers` | yes             | the answer byte by byte from the status line on, `seconds` (0.2) apart         |
| `slow_body`    | yes             | headers at once, the body byte by byte, `seconds` (0.2) apart                  |
| `endless`      | yes             | the normal answer and then blanks in chunks, until it closes or `seconds` (60) |
| `huge`         | yes             | the normal answer and blanks up to 12 MB, which is still valid JSON            |
| `redirect`     | no              | HTTP 301 to a path of the same panel that is no API, but is logged             |
| `invalid_key`  | no              | the panel's own "invalid API key"                                              |
| `no_funds`     | no              | the panel's own "not enough funds"                                             |
| `unknown_error`| no              | an error sentence that nobody knows                                            |
| `wrong_type`   | yes             | every value of the answer replaced by `value` (null)                           |
| `deep_json`    | yes             | the order id (else the answer) inside 100,000 brackets                         |
| `pending`      | yes             | smmafrica's `add` only: HTTP 202 with `pending_confirmation: true`             |

Where the panel's answer is not used, a fault may be ordered with `"processed": true` or `false`, against the table: a
gateway that answers 502 may well stand before a panel that took the order.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sandbox import delivery
from sandbox.delivery import JSON, Parcel, Wire, pack
from sandbox.messages import Call, PanelError, Problem, Reply

if TYPE_CHECKING:
    from sandbox.panel import Panel

HUGE = 12 * 1024 * 1024
DEPTH = 100_000
HTML = ("Content-Type", "text/html; charset=UTF-8")
BOM = b"\xef\xbb\xbf"
MOMENT = (
    "<!DOCTYPE html><html><head><title>Just a moment...</title></head>"
    "<body><h1>Checking your browser before accessing the site.</h1></body></html>"
)
NOTICE = "<br />\n<b>Notice</b>:  Undefined index: runs in <b>/var/www/html/api.php</b> on line <b>87</b><br />\n"
UNKNOWN = "The flux capacitor is out of alignment"


@dataclass
class ActiveFault:
    """A fault that was ordered for a panel."""

    fault: str
    action: str | None = None
    """None: any action."""
    count: int | None = None
    """How many more times; None: until cleared."""
    seconds: float | None = None
    processed: bool | None = None
    value: object = None

    @property
    def kind(self) -> "FaultKind":
        """What it does."""
        return FAULTS[self.fault]

    @property
    def processes(self) -> bool:
        """Whether the panel acts on the request."""
        return self.kind.processed if self.processed is None else self.processed

    @property
    def pause(self) -> float:
        """Its seconds, or the default ones."""
        return self.kind.seconds if self.seconds is None else self.seconds


@dataclass(frozen=True)
class Scene:
    """What a fault has to work with."""

    panel: "Panel"
    call: Call
    fault: ActiveFault


Dress = Callable[[Scene, Reply], Parcel]
Replace = Callable[[Scene], Parcel]


@dataclass(frozen=True)
class FaultKind:
    """One row of the table above."""

    processed: bool
    dress: Dress | None = None
    """Makes the panel's answer look otherwise."""
    instead: Replace | None = None
    """Answers in the panel's place."""
    deliver: Callable[[Wire, Parcel, float], bool] = delivery.send_whole
    seconds: float = 0.0
    answers: bool = True
    delays_processing: bool = False
    only: tuple[str, str] | None = None
    """The one panel and action it makes sense for."""

    @property
    def overridable(self) -> bool:
        """Whether it can do with and without processing."""
        return self.instead is not None or not self.answers


def parcel_for(scene: Scene, reply: Reply | None) -> Parcel:
    """The answer under a fault; `reply` is None when the request was not processed."""
    kind = scene.fault.kind
    if kind.instead:
        return kind.instead(scene)
    if reply is None:
        return Parcel(200, b"")
    return kind.dress(scene, reply) if kind.dress else pack(reply)


def _refusing(problem: Problem) -> Replace:
    return lambda scene: pack(scene.panel.profile.dialect.refuse(scene.panel, PanelError(problem)))


def _too_many(scene: Scene) -> Parcel:
    refusal = scene.panel.profile.dialect.refuse(scene.panel, PanelError(Problem.TOO_FAST))
    return replace(pack(refusal), status=429, headers=(JSON, ("Retry-After", "1")))


def _page(status: int, text: str) -> Replace:
    return lambda _scene: Parcel(status, text.encode(), (HTML,))


def _server_error(status: int, title: str) -> Replace:
    return _page(status, f"<html><head><title>{status} {title}</title></head><body><h1>{title}</h1></body></html>")


def _saying(sentence: Callable[[Call], str]) -> Replace:
    return lambda scene: pack(scene.panel.profile.dialect.complain(sentence(scene.call)))


def _redirect(scene: Scene) -> Parcel:
    return Parcel(301, b"", (HTML, ("Location", f"/{scene.panel.profile.slug}/elsewhere")))


def _with_body(change: Callable[[bytes], bytes]) -> Dress:
    def dress(_scene: Scene, reply: Reply) -> Parcel:
        parcel = pack(reply)
        return replace(parcel, body=change(parcel.body))

    return dress


def _echoing(scene: Scene, reply: Reply) -> Parcel:
    echo = {"debug_key": scene.call.key}
    body = reply.body
    if isinstance(body, dict):
        body = {**body, **echo}
    elif isinstance(body, list):
        body = [{**item, **echo} if isinstance(item, dict) else item for item in body]
    parcel = pack(replace(reply, body=body))
    return replace(parcel, headers=(*parcel.headers, ("X-Debug-Key", _one_line(scene.call.key))))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _wrong_type(scene: Scene, reply: Reply) -> Parcel:
    wrong = scene.fault.value
    body = dict.fromkeys(reply.body, wrong) if isinstance(reply.body, dict) else wrong
    return Parcel(reply.status, json.dumps(body).encode())


def _deep(_scene: Scene, reply: Reply) -> Parcel:
    core = str(reply.order or "").encode()
    nested = b"[" * DEPTH + core + b"]" * DEPTH
    return Parcel(reply.status, b'{"order":%b}' % nested if reply.order else nested)


def _pending(scene: Scene, reply: Reply) -> Parcel:
    if reply.order is None or not isinstance(reply.body, dict):
        return pack(reply)
    order = scene.panel.orders[reply.order]
    order.unconfirmed = True
    scene.panel.mark(order)
    return pack(replace(reply, status=202, body={**reply.body, "pending_confirmation": True}))


FAULTS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "slow": FaultKind(processed=True, deliver=delivery.send_late, seconds=5),
        "late": FaultKind(processed=True, delays_processing=True, seconds=5),
        "silent": FaultKind(processed=True, deliver=delivery.stay_silent, seconds=60, answers=False),
        "silent_before": FaultKind(processed=False, deliver=delivery.stay_silent, seconds=60, answers=False),
        "lost": FaultKind(processed=True, deliver=delivery.hang_up, answers=False),
        "reset": FaultKind(processed=False, deliver=delivery.reset, answers=False),
        "reset_after": FaultKind(processed=True, deliver=delivery.reset, answers=False),
        "429": FaultKind(processed=False, instead=_too_many),
        "500": FaultKind(processed=False, instead=_server_error(500, "Internal Server Error")),
        "502": FaultKind(processed=False, instead=_server_error(502, "Bad Gateway")),
        "503": FaultKind(processed=False, instead=_server_error(503, "Service Unavailable")),
        "504": FaultKind(processed=False, instead=_server_error(504, "Gateway Time-out")),
        "html": FaultKind(processed=False, instead=_page(200, MOMENT)),
        "empty": FaultKind(processed=True, instead=_page(200, "")),
        "bom": FaultKind(processed=True, dress=_with_body(lambda body: BOM + body)),
        "php_notice": FaultKind(processed=True, dress=_with_body(lambda body: NOTICE.encode() + body)),
        "truncated": FaultKind(processed=True, deliver=delivery.send_truncated),
        "garbage_json": FaultKind(processed=True, dress=_with_body(lambda _body: b'{"order": , "ok')),
        "echo_key": FaultKind(
            processed=False,
            instead=_saying(lambda call: f"Invalid something for key {call.key}"),
        ),
        "echo_key_ok": FaultKind(processed=True, dress=_echoing),
        "slow_headers": FaultKind(processed=True, deliver=delivery.drip_all, seconds=0.2),
        "slow_body": FaultKind(processed=True, deliver=delivery.drip_body, seconds=0.2),
        "endless": FaultKind(processed=True, deliver=delivery.send_endless, seconds=60),
        "huge": FaultKind(processed=True, dress=_with_body(lambda body: body.ljust(HUGE))),
        "redirect": FaultKind(processed=False, instead=_redirect),
        "invalid_key": FaultKind(processed=False, instead=_refusing(Problem.BAD_KEY)),
        "no_funds": FaultKind(processed=False, instead=_refusing(Problem.NO_FUNDS)),
        "unknown_error": FaultKind(processed=False, instead=_saying(lambda _call: UNKNOWN)),
        "wrong_type": FaultKind(processed=True, dress=_wrong_type),
        "deep_json": FaultKind(processed=True, dress=_deep),
        "pending": FaultKind(processed=True, dress=_pending, only=("smmafrica", "add")),
    }
)


def take(faults: list[ActiveFault], action: str) -> ActiveFault | None:
    """The first ordered fault that meets an action; one that has met its number is gone."""
    for place, fault in enumerate(faults):
        if fault.action in (None, action):
            if fault.count is not None:
                fault.count -= 1
                if fault.count <= 0:
                    del faults[place]
            return fault
    return None
