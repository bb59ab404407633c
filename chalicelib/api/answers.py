"""What every answer of ours shares: exact JSON, the request's id, the limit's headers, CORS, and the error rendering.

``serve`` is the way of each call, v2 or v3 alike; a ``Face`` says how the one or the other reads and words things.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import simplejson
from chalice.app import Response

from chalicelib.actions import Action
from chalicelib.api.reading import Envelope, Incoming
from chalicelib.clock import SECOND
from chalicelib.commands import read_action, read_command
from chalicelib.errors import Code, Refusal, StoreBusy, try_later
from chalicelib.gateway import Credentials, Denied, Gateway, Result
from chalicelib.log import log_defect, logger, request_id
from chalicelib.model import Quota
from chalicelib.purchase import Deadline
from chalicelib.redaction import redact_whole
from chalicelib.session import Session

# A panel is asked until 25 s after the request reached API Gateway, which gives up after 29 s, and until 3.5 s before
# Lambda's own end: recording begins within 1.5 s (`purchase.RECORD_TIME`), and a try of it takes at most 2 s.
_ASK_TIME = 25 * SECOND
_LAMBDA_MARGIN = 3_500_000
# Whatever the origin: what stands between must not give one page the answer to another.
VARY: Mapping[str, str] = MappingProxyType({"Vary": "Origin"})
_EXPOSED = "ETag, Idempotent-Replayed, Link, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"


@dataclass(frozen=True, slots=True)
class Answer:
    """A rendered answer, still without the headers that all share."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Face:
    """How one version of the API reads and words things.

    Attributes:
        read: takes the key and the fields from a request.
        render: words a result for a caller that may see prices, or may not.
        refuse: words a refusal.
        cors: whether web pages may call, with browser tokens, and read the answers.
        actions: what can be asked at all.
    """

    read: Callable[[Incoming], Envelope]
    render: Callable[[Result, Incoming, Session], Answer]
    refuse: Callable[[Refusal], Answer]
    cors: bool
    actions: frozenset[Action]


def begin() -> None:
    """Give the request that is served now an id of ours: AWS's own ids are not for callers."""
    request_id.set(f"req_{secrets.token_hex(12)}")


def serve(face: Face, incoming: Incoming, gateway: Gateway) -> Response:
    """Answer one call."""
    begin()
    session, outcome = _outcome(face, incoming, gateway)
    answer = face.refuse(outcome) if isinstance(outcome, Refusal) else outcome
    _log(incoming, session, outcome, answer.status)
    cors = _cors(gateway, incoming, session) if face.cors else {}
    return respond(answer, {**cors, **_limit_headers(None if session is None else session.quota)})


def _outcome(face: Face, incoming: Incoming, gateway: Gateway) -> tuple[Session | Denied | None, Answer | Refusal]:
    """Return who called, as far as that is known, and what to answer."""
    session: Session | Denied | None = None
    try:
        envelope = face.read(incoming)
        origin = incoming.headers.get("origin") if face.cors else None
        credentials = Credentials(envelope.key, incoming.address, origin, for_pages=face.cors)
        session = gateway.admit(credentials, _deadline(incoming))
        if isinstance(session, Denied):
            return session, session.refusal
        return session, face.render(_execute(face, gateway, session, envelope), incoming, session)
    except Refusal as refusal:
        return session, refusal
    except StoreBusy as error:
        logger.warning("store busy", extra={"facts": {"cause": str(error)}})
        return session, try_later(2)
    except Exception as error:  # noqa: BLE001 - the outermost edge: told to the log, never to the caller
        log_defect(error)
        return session, Refusal(Code.INTERNAL, "Something went wrong on our side")


def _log(incoming: Incoming, session: Session | Denied | None, outcome: Answer | Refusal, status: int) -> None:
    """Log one line a call, without anything that the caller wrote; ``gateway_id`` leads to API Gateway's access log."""
    caller = _caller(session) if isinstance(session, Session) else {}
    code = outcome.code if isinstance(outcome, Refusal) else ""
    facts = {"status": status, "code": code, **caller, "gateway_id": incoming.gateway_id}
    logger.info("answered", extra={"facts": facts})


def _caller(session: Session) -> dict[str, str]:
    token = {} if session.token is None else {"token": session.token.id}
    return {"tenant": session.tenant.id, "client": session.scope.client, **token}


def _execute(face: Face, gateway: Gateway, session: Session, envelope: Envelope) -> Result:
    action = read_action(envelope.fields.get("action"), face.actions)
    gateway.authorize(session, action)
    fields = envelope.keyed if action is Action.ADD else envelope.fields
    return gateway.execute(session, read_command(action, fields))


def _deadline(incoming: Incoming) -> Deadline:
    return Deadline(min(incoming.arrival + _ASK_TIME, incoming.end - _LAMBDA_MARGIN))


def respond(answer: Answer, headers: Mapping[str, str]) -> Response:
    """Return Chalice's response with the headers that every answer of ours carries."""
    common = {
        # No charset: a client in the field compares this header for equality (protocol.md 2).
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request_id.get(),
    }
    return Response(
        body=redact_whole(answer.body), status_code=answer.status, headers={**common, **headers, **answer.headers}
    )


def to_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Return a value as JSON text; Decimals are written exactly, as numbers."""
    return simplejson.dumps(value, use_decimal=True, allow_nan=False, separators=(",", ":"), ensure_ascii=True)


def error_headers(refusal: Refusal) -> dict[str, str]:
    """Return the headers that a refusal brings along."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return {**headers, "Idempotent-Replayed": "true"} if refusal.replayed else headers


def _limit_headers(quota: Quota | None) -> dict[str, str]:
    """Return the tenant's limit in the fields of the IETF draft; whole seconds, rounded up (contract 4)."""
    if quota is None:
        return {}
    window = -(-quota.limit * quota.interval // SECOND)
    return {
        "RateLimit-Policy": f'"default";q={quota.limit};w={window}',
        "RateLimit": f'"default";r={quota.remaining};t={-(-quota.reset // SECOND)}',
    }


def _cors(gateway: Gateway, incoming: Incoming, session: Session | Denied | None) -> Mapping[str, str]:
    """Let a listed page read the answer: its own tenant's list decides once the caller is known."""
    origin = incoming.headers.get("origin")
    if origin is None:
        return VARY
    known = None if session is None else session.tenant
    granted = origin_granted(gateway, origin) if known is None else origin in known.origins
    return grant(origin) if granted else VARY


def origin_granted(gateway: Gateway, origin: str, *, fresh: bool = False) -> bool:
    """Say whether some active tenant lists an origin; if the store cannot tell, none does."""
    try:
        return gateway.directory.origin_listed(origin, fresh=fresh)
    except StoreBusy:
        return False


def grant(origin: str) -> Mapping[str, str]:
    """Return the headers by which a page of ``origin`` may read an answer."""
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, **VARY}
