"""The HTTP server: reads requests whole, hands them to a panel or to the admin path, sends what comes back."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import admin
from sandbox.delivery import Parcel, Wire, pack
from sandbox.exchange import NOT_FOUND, Answer, receive
from sandbox.messages import Request
from sandbox.panel import Panel
from sandbox.profiles import PROFILES
from sandbox.store import Store

MAX_BODY = 2 * 1024 * 1024
MAX_LENGTH_DIGITS = 12

SAVE_EVERY = 1.0
"""Seconds between writes of the state file: what a kill -9 may lose."""

STOP_POLL = 0.02
"""Seconds that stopping may wait for the listening thread to look up."""

IDLE = 75.0
"""Seconds after which a silent client is let go; nginx's default."""


class Sandbox:
    """Five pretend panels on one port; a context manager, or `start` and `stop`."""

    def __init__(  # noqa: PLR0913 - each has its default, and the rest are named
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        state_file: str | Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        speed: float = 1.0,
        rate_limits: bool = True,
    ) -> None:
        """Prepare the panels; nothing listens before `start`.

        Args:
            host: the address to listen on.
            port: 0 takes a free one.
            state_file: where the panels continue from and are kept; its settings win over `rate_limits`.
            clock: the seconds that orders live by and arrivals are counted by.
            speed: how much faster than the clock orders live.
            rate_limits: whether panels that publish a limit enforce it.

        Raises:
            ValueError: if the speed is not above 0.
            StoreError: if the state file is something else.
        """
        if not speed > 0:
            raise ValueError("the speed must be above 0")
        self._address = (host, port)
        self._clock = clock
        self.panels = {
            profile.slug: Panel(profile, clock=clock, speed=speed, rate_limits=rate_limits) for profile in PROFILES
        }
        self._store = Store(Path(state_file)) if state_file else None
        if self._store:
            self._store.load(self.panels)
        self._stopping = threading.Event()
        self._server: _Server | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> Self:
        """Listen, in threads of its own."""
        self._stopping.clear()
        self._server = _Server(self._address, self.panels, self._clock, self._stopping)
        self._threads = [threading.Thread(target=self._server.serve_forever, args=(STOP_POLL,), name="sandbox")]
        if self._store:
            self._threads.append(threading.Thread(target=self._keep_saving, name="sandbox-store"))
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Close every connection, end every thread and write the state file. Harmless when nothing runs."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        self._server = None
        if self._store:
            self._store.save(self.panels.values())

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:40001`."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _keep_saving(self) -> None:
        while self._store and not self._stopping.wait(SAVE_EVERY):
            self._store.save(self.panels.values())


class _Server(ThreadingHTTPServer):
    """A threading server that can hang up on everybody, so that stopping does not wait for clients."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        panels: dict[str, Panel],
        clock: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        self.panels = panels
        self.clock = clock
        self.stopping = stopping
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that the standard library does."""
        super(ThreadingHTTPServer, self).server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's own types
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's own types
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's own types
        """Be quiet about clients that went away, which is what most faults make clients do."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """End all connections."""
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _UnreadableError(Exception):
    """A request whose body cannot be read; the parcel is the answer."""

    def __init__(self, status: int, sentence: bytes) -> None:
        super().__init__(sentence)
        self.parcel = Parcel(status, b'{"error":"%b"}' % sentence)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE
    server: _Server

    def do_GET(self) -> None:
        """Answer any method the same way; the panels and the admin path look at it."""
        with self._closing_on_loss():
            self._answer()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - the base class looks for these

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        """Log nothing: query strings carry keys, and the journal has everything."""

    @contextmanager
    def _closing_on_loss(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.close_connection = True

    def _answer(self) -> None:
        wire = Wire(self.connection, self.server.stopping)
        try:
            request = self._read()
        except _UnreadableError as error:
            self.close_connection = True
            wire.send(error.parcel.head(("Connection", "close"), ("Content-Length", str(len(error.parcel.body)))))
            wire.send(error.parcel.body)
            return
        if not self._route(request, wire).over(wire):
            self.close_connection = True

    def _read(self) -> Request:
        arrived = self.server.clock()
        if "transfer-encoding" in self.headers:
            raise _UnreadableError(411, b"A request needs a Content-Length")
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise _UnreadableError(400, b"Content-Length is no number")
        if len(length) > MAX_LENGTH_DIGITS or int(length) > MAX_BODY:
            raise _UnreadableError(413, b"The body is larger than 2 MB")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the client closed before its body was complete")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, self.path, headers, body, arrived)

    def _route(self, request: Request, wire: Wire) -> Answer:
        if request.path.startswith(admin.PREFIX):
            return Answer(pack(admin.answer(self.server.panels, request)))
        panel = self.server.panels.get(request.path.split("/")[1]) if request.path.startswith("/") else None
        return receive(panel, request, wire.pause) if panel else Answer(NOT_FOUND)
