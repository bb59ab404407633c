"""A Lambda of the tests' own, for what the product's Lambdas must not do. This file alone is its package."""

import os
import sys
import threading
import time
from typing import Any

VERSION = "{}.{}".format(*sys.version_info[:2])
_ticks = 0


def _tick() -> None:
    global _ticks  # noqa: PLW0603 - what a container remembers
    while True:
        time.sleep(0.01)
        _ticks += 1


def _facts() -> dict[str, Any]:
    return {"ticks": _ticks, "process": os.getpid()}


def _dynamodb() -> Any:
    import boto3  # noqa: PLC0415 - the runtime's own; only some actions need it

    return boto3.client("dynamodb")


def handle(event: dict[str, Any], _context: object) -> Any:
    match event["action"]:
        case "start a thread":
            threading.Thread(target=_tick, daemon=True).start()
        case "work":
            time.sleep(event["seconds"])
        case "say":
            return "x" * event["characters"]
        case "read":
            reply = _dynamodb().get_item(TableName=event["table"], Key={"pk": {"S": "GUEST"}, "sk": {"S": "GUEST"}})
            return {"found": "Item" in reply}
        case "write":
            _dynamodb().put_item(TableName=event["table"], Item={"pk": {"S": "GUEST"}, "sk": {"S": "GUEST"}})
        case "ticks":
            pass
        case unknown:
            raise ValueError(unknown)
    return _facts()
