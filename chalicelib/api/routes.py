"""The routes, as one Chalice blueprint. Each reads the request once and hands it on.

Every route takes every content type: Chalice's own 415 would come before us, without our body and headers.
"""

from chalice.app import Blueprint, Response

from chalicelib.api.answers import Answer, begin, respond, serve, to_json
from chalicelib.api.cors import preflight
from chalicelib.api.reading import Incoming
from chalicelib.api.v2 import V2
from chalicelib.api.v3 import V3
from chalicelib.settings import VERSION
from chalicelib.wiring import parts

routes = Blueprint(__name__)
_ANY = ["*/*"]


@routes.route("/v2", methods=["GET", "POST"], content_types=_ANY)
def v2() -> Response:
    """Serve the classic protocol."""
    return serve(V2, Incoming.of(routes.current_request), parts().gateway)


@routes.route("/v3", methods=["POST"], content_types=_ANY)
def v3() -> Response:
    """Serve the JSON API."""
    return serve(V3, Incoming.of(routes.current_request), parts().gateway)


@routes.route("/v3", methods=["OPTIONS"], content_types=_ANY)
def v3_preflight() -> Response:
    """Serve CORS preflights."""
    return preflight(Incoming.of(routes.current_request), parts().gateway)


@routes.route("/health", methods=["GET"], content_types=_ANY)
def health() -> Response:
    """Say that this version is up; no dependency is asked."""
    begin()
    return respond(Answer(200, to_json({"status": "ok", "version": VERSION})), {})


@routes.route("/openapi.json", methods=["GET"], content_types=_ANY)
def openapi() -> Response:
    """Serve the OpenAPI document."""
    from chalicelib.api.openapi import serve_document  # noqa: PLC0415 - nobody else pays for its import

    begin()
    return respond(serve_document(Incoming.of(routes.current_request)), {})
