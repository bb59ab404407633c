"""Never sent or answer lost: the fact that decides about money."""

import contextlib
import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chalicelib.errors import AnswerLost, NeverSent, SendFailure
from chalicelib.panels.dialect import Request

from .conftest import KEY, order, send
from .scripted import Peer, Play, Resolver, Scripted, listening, replying, resetting, response, streaming

HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"order":'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "play",
    [
        pytest.param(listening, id="no reply"),
        pytest.param(replying(), id="FIN without a reply"),
        pytest.param(resetting(), id="reset without a reply"),
        pytest.param(replying(b"HTTP/1.1 200 OK\r\nContent-"), id="head cut by FIN"),
        pytest.param(replying(HALF), id="body cut by FIN"),
        pytest.param(resetting(HALF), id="body cut by a reset"),
        pytest.param(replying(CHUNKED + b"9\r\n{"), id="chunk cut by FIN"),
        pytest.param(replying(CHUNKED + b"1\r\n1\r\n"), id="no last chunk"),
        pytest.param(replying(CHUNKED + b"zz\r\n1\r\n"), id="chunk without a size"),
        pytest.param(replying(b"\x16\x03\x01\x00\x05hello\r\n\r\n"), id="not HTTP"),
        pytest.param(replying(b'{"order":23501}\r\n\r\n'), id="a body without a head"),
        pytest.param(replying(b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n"), id="bad header"),
        pytest.param(replying(response(b"{}", b"Content-Length: 3")), id="two lengths"),
        pytest.param(replying(response(b"{}", b"X: " + b"y" * 5_000_000)), id="5 MB header"),
        pytest.param(replying(response(b"{}", *[b"X-More: yyyy"] * 20_000)), id="20,000 headers"),
        pytest.param(replying(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), id="101"),
        pytest.param(replying(response(b"{}", b"Content-Encoding: gzip")), id="encoded against our wish"),
        pytest.param(replying(response(b"{}", b"Content-Encoding: gzip, gzip")), id="encoded twice"),
    ],
)
def test_a_reply_that_is_missing_cut_or_broken_is_an_answer_lost(play: Play) -> None:
    with Scripted(play) as server, pytest.raises(AnswerLost):
        send(server.url, seconds=0.5)

    assert server.heard()[0].endswith(order().body)


def test_a_request_that_cannot_be_written_to_its_end_is_an_answer_lost() -> None:
    def take_a_little(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.reset()

    with Scripted(take_a_little) as server, pytest.raises(AnswerLost):
        send(server.url, Request(body=b"x" * 20_000_000, headers={}))


def test_a_write_that_hangs_is_an_answer_lost_at_the_deadline() -> None:
    def take_nothing(peer: Peer) -> None:
        peer.sock.recv(1)
        time.sleep(0.4)

    with Scripted(take_nothing) as server, pytest.raises(AnswerLost, match=r"deadline|timeout"):
        send(server.url, Request(body=b"x" * 20_000_000, headers={}), seconds=0.3)


def test_a_write_that_drips_is_an_answer_lost_at_the_deadline() -> None:
    over = threading.Event()

    def take_sips(peer: Peer) -> None:
        while not over.wait(0.02) and peer.sock.recv(400_000):
            pass

    with Scripted(take_sips) as server:
        with pytest.raises(AnswerLost, match=r"deadline|timeout"):
            send(server.url, Request(body=b"x" * 60_000_000, headers={}), seconds=0.3)
        over.set()


def test_a_reply_that_comes_before_the_request_ends_is_an_answer() -> None:
    def refuse_early(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.say(response(b"too large", status=b"413 Too Large"))

    with Scripted(refuse_early) as server:
        assert send(server.url, Request(body=b"x" * 20_000_000, headers={})).status == 413


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": f"Bearer {KEY}\r\nX-More: 1"}, id="CR LF in a value"),
        pytest.param({"Authorization": f"{KEY}\n"}, id="LF in a value"),
        pytest.param({"Authorization": f"{KEY}\r"}, id="CR in a value"),
        pytest.param({"Authorization": f"{KEY}\x00"}, id="NUL in a value"),
        pytest.param({f"X-{KEY}\r\nX-More": "1"}, id="CR LF in a name"),
        pytest.param({"Authorization": f"{KEY}é"}, id="not ASCII"),
    ],
)
def test_a_request_that_is_not_http_is_never_sent(headers: dict[str, str]) -> None:
    with Scripted(listening) as server, pytest.raises(NeverSent, match="request not valid HTTP"):
        send(server.url, Request(body=b"", headers=headers))

    assert b"".join(server.heard()) == b""


def test_a_method_that_is_not_http_is_never_sent() -> None:
    with Scripted(listening) as server, pytest.raises(NeverSent):
        send(server.url, Request(body=b"", headers={}, method="POST /x HTTP/1.1\r\n"))

    assert b"".join(server.heard()) == b""


def test_a_refused_connection_is_never_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(NeverSent, match="connection refused"):
        send(f"http://localhost:{port}/")


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """Hold a port whose queue of connections is full, so that Linux drops the next SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0)
            sock.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


def test_a_connection_that_hangs_is_never_sent() -> None:
    with deaf() as port, pytest.raises(NeverSent, match="timeout"):
        send(f"http://127.0.0.1:{port}/", seconds=0.3)


def test_a_connection_that_hangs_leaves_time_for_the_next_address() -> None:
    with deaf() as port, socket.create_server(("127.0.0.2", port)) as listener:
        listener.settimeout(2)
        resolver = Resolver(["127.0.0.1", "127.0.0.2"])
        with pytest.raises(AnswerLost):
            send(f"http://panel.example:{port}/", seconds=0.8, resolve=resolver)
        with listener.accept()[0] as sock:
            assert sock.recv(10) == b"POST / HTT"


@pytest.mark.parametrize(
    "resolve",
    [
        pytest.param(Resolver([]), id="no such name"),
        pytest.param(lambda *_, **__: [], id="no address"),
        pytest.param(lambda host, *_, **__: host.encode("ascii", "bogus"), id="a resolver that breaks"),
        pytest.param(lambda *_, **__: [(1, 1, 6, "", ("/run/socket",))], id="not an internet address"),
    ],
)
def test_a_name_without_an_address_is_never_sent(resolve: Callable[..., object]) -> None:
    with pytest.raises(NeverSent):
        send("http://panel.example:8080/", resolve=resolve)


def test_a_lookup_that_hangs_is_never_sent() -> None:
    hanging: queue.SimpleQueue[list[object]] = queue.SimpleQueue()
    with pytest.raises(NeverSent, match="name lookup took too long"):
        send("http://panel.example:8080/", seconds=0.3, resolve=lambda *_, **__: hanging.get())
    hanging.put([])


@pytest.mark.parametrize("seconds", [0.0, -60.0, float("nan"), float("inf"), float("-inf")])
def test_a_deadline_that_is_past_or_no_time_at_all_is_never_sent(seconds: float) -> None:
    with Scripted(listening) as server:
        with pytest.raises(NeverSent):
            send(server.url, seconds=3, clock=lambda: time.time() + 3 - seconds)

        assert b"".join(server.heard()) == b""


def failing_at(call: int) -> Callable[[], float]:
    """Return a monotonic clock that fails at one of its calls."""
    calls = itertools.count()

    def monotonic() -> float:
        if next(calls) == call:
            raise ArithmeticError(KEY)
        return time.monotonic()

    return monotonic


def failure_of(url: str, monotonic: Callable[[], float]) -> SendFailure | None:
    try:
        send(url, monotonic=monotonic)
    except SendFailure as failure:
        return failure
    return None


def test_whatever_breaks_before_the_first_byte_is_never_sent_and_after_it_an_answer_lost() -> None:
    """Not only the errors that we thought of: the monotonic clock fails at each of its calls in turn."""
    kinds = []
    for call in itertools.count(1):
        with Scripted(replying(response())) as server:
            failure = failure_of(server.url, failing_at(call))
            if failure is None:
                break
            kinds.append(type(failure))
            assert str(failure) == "unexpected ArithmeticError"
            assert isinstance(failure, AnswerLost) or b"".join(server.heard()) == b""

    assert kinds == sorted(kinds, key=[NeverSent, AnswerLost].index)
    assert set(kinds) == {NeverSent, AnswerLost}


@pytest.mark.parametrize(
    "play",
    [
        pytest.param(streaming(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(b"y"), 0.02), id="head byte by byte"),
        pytest.param(
            streaming(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", itertools.repeat(b"y"), 0.02),
            id="body byte by byte",
        ),
        pytest.param(streaming(b"", itertools.repeat(b"HTTP/1.1 102 Wait\r\n\r\n"), 0.02), id="1xx without end"),
        pytest.param(streaming(CHUNKED, itertools.repeat(b"1\r\ny\r\n"), 0.02), id="chunks without end"),
        pytest.param(
            streaming(CHUNKED + b"0\r\n", (b"X%d: y\r\n" % n for n in itertools.count()), 0.02),
            id="trailers without end",
        ),
    ],
)
def test_a_reply_that_drips_is_an_answer_lost_at_the_deadline(play: Play) -> None:
    with Scripted(play) as server, pytest.raises(AnswerLost, match=r"deadline|timeout"):
        send(server.url, seconds=0.3)
