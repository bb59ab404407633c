"""Structured logs: one JSON object a line, with the request's id, never a key.

Whoever logs passes facts in ``extra={"facts": {...}}``. Provider texts are redacted before they get here, and whatever
is logged, by whomever, is redacted here once more.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TextIO, TypeVar

from chalicelib.redaction import redact, redact_all

P = ParamSpec("P")
R = TypeVar("R")

request_id: ContextVar[str] = ContextVar("request_id", default="")

logger = logging.getLogger("panelgate")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record, with the traceback of its exception."""
        line: dict[str, object] = {
            "level": record.levelname.lower(),
            "event": redact(record.getMessage()),
            "request_id": request_id.get(),
            "exception": redact(self.formatException(record.exc_info)) if record.exc_info else "",
        }
        facts = redact_all(getattr(record, "facts", {}))
        assert isinstance(facts, dict)  # noqa: S101 - a mapping becomes one
        return json.dumps({name: value for name, value in (line | facts).items() if value != ""})


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes records to standard error."""

    def __init__(self) -> None:
        """Write lines of JSON."""
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say that a record could not be written. Python would print its arguments, and the traceback around it."""
        del record
        failure = {"level": "error", "event": "a record could not be logged", "type": type(sys.exception()).__name__}
        self.stream.write(json.dumps(failure) + self.terminator)
        self.flush()


def configure() -> None:
    """Send all records to standard error as JSON, and silence those who would log URLs.

    The handler that Lambda's runtime brings is taken away: it would write what libraries log as they wrote it. httpx
    logs every URL at INFO, and a v2 key may travel in a query; botocore logs whole requests at DEBUG.
    """
    logging.getLogger().handlers = [JsonHandler()]
    logger.setLevel(logging.INFO)
    for name in ("httpx", "httpcore", "boto3", "botocore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def log_defect(error: BaseException) -> None:
    """Log where an unforeseen exception came from, without its text: that may quote what a caller wrote."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    logger.error("defect", extra={"facts": {"type": type(error).__name__, "frames": frames[-12:]}})


def outermost(function: Callable[P, R]) -> Callable[P, R]:
    """Return a Lambda's function whose failures may be shown to Lambda's runtime, which logs their text as it is."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the outermost edge
            log_defect(error)
            raise RuntimeError(redact(f"{type(error).__name__}: {error}")) from None

    return run
