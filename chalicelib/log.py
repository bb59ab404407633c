"""Structured logs: one JSON object a line, with the request's id, never a key.

Whoever logs passes facts in ``extra={"facts": {...}}``; provider texts are redacted before they get here.
"""

import json
import logging
import sys
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")

logger = logging.getLogger("panelgate")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record; an exception is not written, for its text may quote a key."""
        line: dict[str, object] = {
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "facts", {}),
        }
        return json.dumps({name: value for name, value in line.items() if value != ""}, default=str)


def configure() -> None:
    """Send our records to standard error as JSON, and silence those who would log URLs.

    httpx logs every URL at INFO, and a v2 key may travel in a query; botocore logs whole requests at DEBUG.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in ("httpx", "httpcore", "boto3", "botocore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
