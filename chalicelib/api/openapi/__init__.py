"""The OpenAPI document: what the API says of itself, out of the models and tables that it works by.

Nothing here is needed by any other request: it is imported by the one that asks for the document.
"""

import hashlib
from functools import cache

from chalicelib.api.answers import Answer, to_json
from chalicelib.api.openapi.document import document
from chalicelib.api.reading import Incoming


def serve_document(incoming: Incoming) -> Answer:
    """Answer with the document, or with 304 to who has it already."""
    body, etag = _rendered()
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    return Answer(304, "", headers) if incoming.has(etag) else Answer(200, body, headers)


@cache
def _rendered() -> tuple[str, str]:
    """Return the document as JSON, and its entity tag."""
    body = to_json(document())
    return body, f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
