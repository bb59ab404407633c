import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.errors import SendFailure
from chalicelib.panels.dialect import Reply, Request
from chalicelib.upstream import Sender

from .authority import Authority

KEY = "pk-canary-5f2b9c01d7"
"""The provider key of these tests: it may be nowhere but on the wire."""

MARGIN = 1.0
"""How late a send may return on a busy machine. It says that there is an end, not how fast anything is."""


def order() -> Request:
    """Return what an ``add`` looks like."""
    body = f"key={KEY}&action=add&service=1&quantity=100".encode()
    return Request(body=body, headers={"Content-Type": "application/x-www-form-urlencoded"})


def send(url: str, request: Request | None = None, *, seconds: float = 3.0, **options: Any) -> Reply:
    """Send to loopback, and check that the call ended by its deadline and told nothing."""
    send_by = options.pop("send_by", None)
    sender = Sender(**{"allow_loopback": True, **options})
    begun = time.monotonic()
    try:
        return sender.send(url, request or order(), deadline=time.time() + seconds, send_by=send_by)
    except SendFailure as failure:
        assert_silent(failure)
        raise
    finally:
        assert time.monotonic() - begun < seconds + MARGIN


def assert_silent(failure: SendFailure) -> None:
    """Check that neither a failure nor what hangs on it names a key, host, address or port."""
    assert failure.__cause__ is None
    assert failure.__context__ is None
    text = f"{failure!s} {failure!r} {failure.args!r}"
    assert KEY not in text
    assert not any(character.isdigit() or character in "/:@." for character in str(failure))
    trace = "".join(traceback.format_exception(failure))
    assert KEY not in trace
    assert "localhost" not in trace


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def elapsed() -> Callable[[], float]:
    begun = time.monotonic()
    return lambda: time.monotonic() - begun
