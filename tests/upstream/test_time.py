"""Deadlines, ``send_by`` and clocks that step."""

import itertools
import time
from collections.abc import Callable

import pytest

from chalicelib.errors import AnswerLost, NeverSent
from chalicelib.upstream import Sender

from .authority import Authority
from .conftest import MARGIN, order, send
from .scripted import Peer, Scripted, listening, replying, response


class Stepping:
    """A wall clock that is set to another time after some calls."""

    def __init__(self, *, after: int, by: float) -> None:
        self._calls_left = after
        self._by = by

    def __call__(self) -> float:
        self._calls_left -= 1
        return time.time() + (self._by if self._calls_left < 0 else 0.0)


@pytest.mark.parametrize("late", [0.0, 0.001, 3600.0])
def test_past_send_by_nothing_is_written(late: float) -> None:
    with Scripted(listening) as server:
        with pytest.raises(NeverSent, match="no time left to send"):
            send(server.url, send_by=time.time() - late)

        assert b"".join(server.heard()) == b""


def test_send_by_is_checked_by_the_wall_clock_right_before_the_write(authority: Authority) -> None:
    """The clock is set forward once the TLS connection stands: others already think that it is too late."""
    with Scripted(listening, tls=authority.serving("localhost")) as server:
        with pytest.raises(NeverSent, match="no time left to send"):
            send(
                server.url,
                send_by=time.time() + 60,
                clock=Stepping(after=1, by=120.0),
                ssl_context=authority.trusting(),
            )

        assert server.heard() == [b""]


def test_send_by_passes_while_the_name_is_looked_up() -> None:
    def slow(*_: object, **__: object) -> list[object]:
        time.sleep(0.3)
        return [(2, 1, 6, "", ("127.0.0.1", 1))]

    with Scripted(listening) as server:
        with pytest.raises(NeverSent):
            send(server.url, send_by=time.time() + 0.1, resolve=slow)

        assert server.heard() == []


def test_send_by_passes_during_the_handshake(elapsed: Callable[[], float]) -> None:
    with Scripted(listening) as server, pytest.raises(NeverSent):
        send(server.url.replace("http:", "https:"), send_by=time.time() + 0.2, seconds=20)

    assert elapsed() < 0.2 + MARGIN


def test_send_by_does_not_end_a_send_that_has_begun() -> None:
    def slow(peer: Peer) -> None:
        peer.hear()
        time.sleep(0.3)
        peer.say(response(b"{}"))

    with Scripted(slow) as server:
        assert send(server.url, send_by=time.time() + 0.2).body == b"{}"


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_steps_moves_no_deadline(step: float) -> None:
    with Scripted(listening) as server, pytest.raises(AnswerLost, match=r"deadline|timeout"):
        send(server.url, seconds=0.3, clock=Stepping(after=1, by=step))


def test_a_clock_that_was_set_back_does_not_make_us_send_late() -> None:
    def slow(*_: object, **__: object) -> list[object]:
        time.sleep(0.3)
        return [(2, 1, 6, "", ("127.0.0.1", 1))]

    with Scripted(listening) as server:
        with pytest.raises(NeverSent):
            send(server.url, send_by=time.time() + 0.1, resolve=slow, clock=Stepping(after=1, by=-3600.0))

        assert server.heard() == []


def test_a_single_read_full_of_tiny_chunks_is_watched_too() -> None:
    """The deadline passes between two reads: time goes on by a millisecond whenever it is asked for."""
    time_goes_on = itertools.count()
    chunks = b"1\r\nx\r\n" * 10_000
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    with Scripted(replying(said)) as server, pytest.raises(AnswerLost, match="deadline"):
        send(server.url, monotonic=lambda: next(time_goes_on) / 1000)


def test_a_sender_may_be_shared_and_sends_may_differ() -> None:
    with Scripted(replying(response(b"{}"))) as server:
        sender = Sender(allow_loopback=True)
        with pytest.raises(NeverSent):
            sender.send(server.url, order(), deadline=time.time() - 1)

        assert sender.send(server.url, order(), deadline=time.time() + 3).body == b"{}"
