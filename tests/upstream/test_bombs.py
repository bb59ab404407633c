"""Replies that would fill the memory stop at the cap."""

import gzip
import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from chalicelib.errors import AnswerLost
from chalicelib.upstream.wire import READ_BYTES

from .authority import Authority
from .conftest import order, send
from .scripted import Play, Scripted, replying, response, streaming

CAP = 200_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 900000000000\r\n\r\n"


def blocks(block: bytes) -> Iterator[bytes]:
    return itertools.repeat(block)


BOMBS = [
    pytest.param(streaming(CHUNKED, blocks(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")), id="chunks without end"),
    pytest.param(streaming(CHUNKED, blocks(b"1\r\nx\r\n" * 5000)), id="tiny chunks without end"),
    pytest.param(streaming(SIZED, blocks(b"x" * 50_000)), id="a length of 900 GB"),
    pytest.param(streaming(b"HTTP/1.1 200 OK\r\n\r\n", blocks(b"x" * 50_000)), id="no length and no end"),
    pytest.param(streaming(b"", blocks(b"HTTP/1.1 102 Wait\r\n\r\n" * 2000)), id="1xx without end"),
]


@pytest.mark.parametrize("play", BOMBS)
def test_a_reply_without_end_is_an_answer_lost_at_the_cap(play: Play) -> None:
    with Scripted(play) as server, pytest.raises(AnswerLost, match="reply too large"):
        send(server.url, replace(order(), max_reply=CAP), seconds=20)


def test_tls_is_capped_too(authority: Authority) -> None:
    play = streaming(CHUNKED, blocks(b"4000\r\n" + b"x" * 0x4000 + b"\r\n"))
    with Scripted(play, tls=authority.serving("localhost")) as server, pytest.raises(AnswerLost, match="too large"):
        send(server.url, replace(order(), max_reply=CAP), seconds=20, ssl_context=authority.trusting())


def test_memory_stays_within_a_small_multiple_of_the_cap() -> None:
    quiet = itertools.repeat(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
    with Scripted(streaming(CHUNKED, quiet)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(AnswerLost):
                send(server.url, replace(order(), max_reply=CAP), seconds=20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 4 * CAP + 10 * READ_BYTES


@pytest.mark.parametrize("folds", [1, 2])
def test_a_gzip_bomb_is_never_unfolded(folds: int) -> None:
    bomb = bytes(20_000_000)
    for _ in range(folds):
        bomb = gzip.compress(bomb)
    said = response(bomb, b"Content-Encoding: " + b", ".join([b"gzip"] * folds))
    with Scripted(replying(said)) as server, pytest.raises(AnswerLost, match="encoded against our wish"):
        send(server.url)


def test_a_gzip_body_that_does_not_say_so_is_handed_back_as_it_is() -> None:
    bomb = gzip.compress(bytes(1_000_000))
    with Scripted(replying(response(bomb))) as server:
        assert send(server.url).body == bomb


def test_a_reply_of_exactly_the_cap_passes_and_one_byte_more_does_not() -> None:
    said = response(b"x" * 1000)
    with Scripted(replying(said)) as server:
        assert len(send(server.url, replace(order(), max_reply=len(said))).body) == 1000
        with pytest.raises(AnswerLost, match="reply too large"):
            send(server.url, replace(order(), max_reply=len(said) - 1))
