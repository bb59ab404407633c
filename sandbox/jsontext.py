"""JSON text in which a Decimal keeps every digit: `2.50` stays `2.50`, as the panels' documents print it."""

import json
from decimal import Decimal


def dump(value: object) -> str:
    """Render a value made of dicts, lists, scalars and Decimals."""
    match value:
        case Decimal():
            return format(value, "f")
        case dict():
            return "{" + ",".join(f"{json.dumps(str(name))}:{dump(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(dump, value)) + "]"
        case _:
            return json.dumps(value)
