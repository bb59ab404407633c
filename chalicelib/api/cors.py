"""CORS preflights: they carry no key, so an origin is granted when some active tenant lists it (contract 4)."""

from chalice.app import Response

from chalicelib.api.answers import VARY, Answer, begin, grant, origin_granted, respond
from chalicelib.api.reading import Incoming
from chalicelib.api.v3 import refuse
from chalicelib.errors import Code, Refusal
from chalicelib.gateway import Gateway

_ALLOWED = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-None-Match",
    "Access-Control-Max-Age": "600",
}


def preflight(incoming: Incoming, gateway: Gateway) -> Response:
    """Answer a browser's question whether a page may call the API."""
    begin()
    origin = incoming.headers.get("origin", "")
    if origin and origin_granted(gateway, origin, fresh=True):
        return respond(Answer(204, ""), {**grant(origin), **_ALLOWED})
    return respond(refuse(Refusal(Code.FORBIDDEN, "This origin is not allowed")), VARY)
