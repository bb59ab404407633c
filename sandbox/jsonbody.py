"""Reading a JSON object, for the two panels that take JSON."""

import json

from sandbox.messages import Call, Problem, Request


def read_call(request: Request, key: str = "") -> Call:
    """A POST with a JSON object; the key is the one that came elsewhere, or else the body's."""
    if request.method != "POST":
        return Call(flaw=Problem.WRONG_METHOD)
    fields = _object(request)
    if fields is None:
        return Call(flaw=Problem.NOT_READABLE)
    call = Call(fields=fields)
    return Call(key or call.text("key"), call.text("action"), fields)


def _object(request: Request) -> dict[str, object] | None:
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_number(value: object) -> bool:
    """Whether JSON said a whole number, and neither a string nor true."""
    return isinstance(value, int) and not isinstance(value, bool)
