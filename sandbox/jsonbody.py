"""Reading a JSON object, for the two panels that take JSON."""

import json

from sandbox.messages import Request


def read_object(request: Request) -> dict[str, object] | None:
    """The body as an object, or None."""
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_number(value: object) -> bool:
    """Whether JSON said a whole number, and neither a string nor true."""
    return isinstance(value, int) and not isinstance(value, bool)
