"""A server on loopback that plays a script, byte by byte, and keeps what it heard.

It is made of raw sockets, since a proper server would not do what the worst panels do.
"""

import contextlib
import itertools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

SECONDS = 5.0
"""How long the server waits for a client that never comes or never leaves."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""

    def hear(self) -> bytes:
        """Take in one whole request."""
        while not self._whole():
            if not self._more():
                break
        return self.heard

    def hear_all(self) -> bytes:
        """Take in whatever comes until the client closes."""
        while self._more():
            pass
        return self.heard

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self.sock.sendall(part)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _more(self) -> bool:
        received = self.sock.recv(65_536)
        self.heard += received
        return bool(received)

    def _whole(self) -> bool:
        head, separator, body = self.heard.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return bool(separator) and len(body) >= int(lengths[0] if lengths else 0)


Play = Callable[[Peer], None]


class Scripted:
    """Plays one script for each connection, the last one again and again; a context."""

    def __init__(self, *plays: Play, tls: ssl.SSLContext | None = None, host: str = "localhost") -> None:
        self._plays = itertools.chain(plays, itertools.repeat(plays[-1]))
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._knock: object = None
        self._answered = threading.Event()
        self._stopping = False
        self.peers: list[Peer] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}/api/v2"

    def heard(self) -> list[bytes]:
        """Return the bytes of each connection so far, once the connections are over."""
        if not self._stopping:
            self._catch_up()
        for thread in self._threads[1:]:
            thread.join(SECONDS)
        return [peer.heard for peer in self.peers]

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._catch_up()
        for thread in self._threads:
            thread.join(SECONDS)
        self._listener.close()

    def _run(self, task: Callable[[], None]) -> None:
        thread = threading.Thread(target=task, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _catch_up(self) -> None:
        """Wait until every connection made so far is accepted: knock, since they are accepted in turn."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self._answered.clear()
            self._knock = sock.getsockname()
            sock.connect(self._listener.getsockname())
            assert self._answered.wait(SECONDS)

    def _accept(self) -> None:
        while True:
            sock, address = self._listener.accept()
            if address == self._knock:
                sock.close()
                self._answered.set()
                if self._stopping:
                    return
            else:
                self._welcome(Peer(sock))

    def _welcome(self, peer: Peer) -> None:
        self.peers.append(peer)
        play = next(self._plays)
        self._run(lambda: self._serve(peer, play))

    def _serve(self, peer: Peer, play: Play) -> None:
        peer.sock.settimeout(SECONDS)
        with contextlib.suppress(OSError), contextlib.ExitStack() as closing:
            closing.callback(lambda: peer.sock.close())  # noqa: PLW0108  the socket of that moment: TLS replaces it
            if self._tls:
                peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
            play(peer)


def response(body: bytes = b'{"order":23501}', *lines: bytes, status: bytes = b"200 OK", sized: bool = True) -> bytes:
    """Write a whole response; without ``sized`` it ends where the connection does."""
    length = (b"Content-Length: %d" % len(body),) if sized else ()
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, *length, b"", body])


def replying(*parts: bytes) -> Play:
    """Hear the request and say these bytes."""

    def play(peer: Peer) -> None:
        peer.hear()
        peer.say(*parts)

    return play


def streaming(head: bytes, parts: Iterable[bytes], pause: float = 0.0) -> Play:
    """Hear the request, then say one part after the other until the client has gone or ``SECONDS`` are over."""

    def play(peer: Peer) -> None:
        peer.hear()
        peer.say(head)
        end = time.monotonic() + SECONDS
        for part in parts:
            if time.monotonic() > end:
                return
            peer.say(part)
            time.sleep(pause)

    return play


def resetting(*parts: bytes) -> Play:
    """Hear the request, say these bytes and reset the connection."""

    def play(peer: Peer) -> None:
        peer.hear()
        peer.say(*parts)
        peer.reset()

    return play


def listening(peer: Peer) -> None:
    """Only listen, until the client closes."""
    peer.hear_all()


class Resolver:
    """Answers name lookups with given addresses, one list for each lookup, and counts them."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = [*answers]
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, /, *, type: int) -> list[tuple[Any, Any, Any, Any, Any]]:  # noqa: A002
        self.asked.append(host)
        addresses = self._answers.pop(0)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"no such host: {host}")
        return [_found(address, port, type) for address in addresses]


def _found(address: str, port: int, kind: int) -> tuple[Any, Any, Any, Any, Any]:
    if ":" in address:
        return socket.AF_INET6, kind, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, kind, socket.IPPROTO_TCP, "", (address, port)
