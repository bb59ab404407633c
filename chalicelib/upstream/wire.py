"""One request over one new connection, under one deadline and one cap.

httpx and httpcore take timeouts per read, so a provider that sends a byte now and then holds a call for ever. Here
every wait on the socket is cut to what is left of the whole send, and every byte off the wire counts against the cap.

httpcore logs hosts and the heads of replies at DEBUG; ``log.configure`` silences it.
"""

import contextlib
import ipaddress
import math
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import httpcore
import httpx

from chalicelib.upstream.address import is_allowed, port_of

CONNECT_SECONDS = 5.0
"""The longest wait for one address: time for two repeats of a lost SYN (after 1 s and 3 s), and the rest of the time
that the caller has stays free for another try, for a failed connection is safe to repeat."""

MOST_ADDRESSES = 4
"""How many addresses of a name are tried. All of them are checked."""

READ_BYTES = 65_536

T = TypeVar("T")
SocketAddress = tuple[Any, ...]
"""``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for IPv6."""
Found = tuple[Any, Any, Any, Any, SocketAddress]
"""What ``socket.getaddrinfo`` returns for each address: family, type, protocol, name, socket address."""


class Resolve(Protocol):
    """The part of ``socket.getaddrinfo`` that is used."""

    def __call__(self, host: str, port: int, /, *, type: int) -> Iterable[Found]:  # noqa: A002
        """Return the addresses of a host."""


class Stopped(Exception):
    """We ended a send ourselves; ``str()`` is the cause, without URL, key or address."""


class Watch:
    """What is left of one send, and whether it has begun; monotonic seconds inside.

    Attributes:
        begun: the first byte of the request is about to be written, or was: from here on the provider may have acted.
    """

    def __init__(
        self,
        *,
        deadline: float,
        send_by: float | None,
        max_bytes: int,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Start a send that ends at ``deadline`` and begins before ``send_by``, both in epoch seconds by ``clock``."""
        # The clock is asked once for all waits: where it steps during the send, the waits do not.
        ahead = monotonic() - clock()
        self.begun = False
        self._clock, self._monotonic = clock, monotonic
        self._send_by = math.inf if send_by is None else send_by
        self._start_end, self._end = min(self._send_by, deadline) + ahead, deadline + ahead
        self._bytes_left = max_bytes

    def left(self) -> float:
        """Return the seconds that may still be waited, always more than 0.

        Raises:
            Stopped: there are none: the deadline is reached, or ``send_by`` is and nothing was sent.
        """
        left = (self._end if self.begun else self._start_end) - self._monotonic()
        if left <= 0:
            raise Stopped("deadline" if self.begun else "no time left to send")
        return left

    def begin(self) -> None:
        """Allow the write of request bytes that follows at once.

        ``send_by`` is checked by both clocks: others will act on the wall clock's view of it, and a wall clock that
        was set back must not make us send late.

        Raises:
            Stopped: it is too late to send.
        """
        if not self.begun:
            self.left()
            if self._clock() >= self._send_by:
                raise Stopped("no time left to send")
            self.begun = True

    def count(self, received: int) -> None:
        """Take bytes that came from the socket off the cap.

        Raises:
            Stopped: the provider sent too many.
        """
        self._bytes_left -= received
        if self._bytes_left < 0:
            raise Stopped("reply too large")


class PlainStream(httpcore.NetworkStream):
    """A TCP connection. httpcore's own timeouts are not heeded: the watch knows better."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._sock = sock
        self._watch = watch

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Return the next bytes, or none at the end of the stream."""
        self._sock.settimeout(self._watch.left())
        received = self._sock.recv(max_bytes)
        self._watch.count(len(received))
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write bytes of the request."""
        self._watch.begin()
        with _write_errors():
            self.put(buffer)

    def put(self, buffer: bytes) -> None:
        """Write bytes that are not of the request as yet: the TLS handshake's."""
        rest = memoryview(buffer)
        while rest:
            self._sock.settimeout(self._watch.left())
            rest = rest[self._sock.send(rest) :]

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Return this connection with TLS on it."""
        return TlsStream(self, self._watch, ssl_context, server_hostname)


class TlsStream(httpcore.NetworkStream):
    """TLS over a connection, with the socket kept in our hands.

    An ``SSLSocket`` reads as many records as it likes in one call; here each wait and each byte underneath is watched.
    It also takes a cut connection for the end of a reply that has no length; here that is an error, as it is to curl.
    """

    def __init__(self, plain: PlainStream, watch: Watch, context: ssl.SSLContext, name: str | None) -> None:
        self._plain = plain
        self._watch = watch
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._drive(self._tls.do_handshake)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Return the next bytes, or none at the end of the stream."""
        return self._drive(lambda: self._tls.read(max_bytes))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write bytes of the request."""
        self._watch.begin()
        with _write_errors():
            self._drive(lambda: self._tls.write(buffer))

    def close(self) -> None:
        """Close the connection."""
        self._plain.close()

    def get_extra_info(self, info: str) -> object:
        """Return the TLS object, which httpcore asks for the chosen protocol."""
        return self._tls if info == "ssl_object" else None

    def _drive(self, step: Callable[[], T]) -> T:
        """Return the result of a TLS operation, moving bytes for it until it has one."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._plain.put(self._outgoing.read())

    def _fill(self) -> None:
        received = self._plain.read(READ_BYTES)
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()


class Dialer(httpcore.NetworkBackend):
    """Opens the connection of one send: looks the name up once, checks every address, connects to a checked one."""

    def __init__(self, watch: Watch, resolve: Resolve, *, allow_loopback: bool) -> None:
        self._watch = watch
        self._resolve = resolve
        self._allow_loopback = allow_loopback
        self._socket: socket.socket | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Return a connection to the host, at an address that passed.

        Raises:
            Stopped: the name has no address, or one that is not allowed, or the time is up.
            OSError: no address took the connection.
        """
        self._socket = self._dial(self._checked(self._look_up(host, port), port))
        return PlainStream(self._socket, self._watch)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()

    def _look_up(self, host: str, port: int) -> Sequence[Found]:
        """Resolve a name in a thread, since ``getaddrinfo`` takes no timeout.

        A lookup that we no longer wait for ends by itself (glibc gives up after some 10 to 30 s) and does nothing more.
        """
        answers: queue.SimpleQueue[Sequence[Found]] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(list(self._resolve(host, port, type=socket.SOCK_STREAM)))
            except Exception:  # noqa: BLE001  not only OSError: the IDNA codec raises UnicodeError
                answers.put([])

        threading.Thread(target=look_up, name="name-lookup", daemon=True).start()
        try:
            found = answers.get(timeout=self._watch.left())
        except queue.Empty:
            raise Stopped("name lookup took too long") from None
        if not found:
            raise Stopped("name lookup failed")
        return found

    def _checked(self, found: Sequence[Found], port: int) -> list[SocketAddress]:
        """Return the addresses to try. One bad address spoils all: a mixed answer is an attack, or a mistake."""
        addresses: list[SocketAddress] = []
        for _family, _type, _protocol, _name, (host, _port, *flow_and_scope) in found:
            if not is_allowed(ipaddress.ip_address(host), allow_loopback=self._allow_loopback):
                raise Stopped("address not allowed")
            addresses.append((host, port, *flow_and_scope))
        return list(dict.fromkeys(addresses))[:MOST_ADDRESSES]

    def _dial(self, addresses: Sequence[SocketAddress]) -> socket.socket:
        """Connect to the first address that answers; each gets a fair share of the time, the last all that is left."""
        failure = OSError()
        for position, address in enumerate(addresses):
            share = self._watch.left() / (len(addresses) - position)
            try:
                return _connect(address, min(share, CONNECT_SECONDS))
            except OSError as error:
                failure = error
        raise failure


class OneShot(httpx.BaseTransport):
    """Sends one request over a connection of its own; used as a context, which closes the connection.

    It is called without an ``httpx.Client``: redirects, cookies, proxies and passwords from the environment, decoding
    of bodies and a log line with the whole URL are all a client's doing, so that here there is none of them.
    """

    def __init__(self, dialer: Dialer, ssl_context: ssl.SSLContext | None) -> None:
        """Take what opens the connection, and the TLS context for an https URL."""
        self._dialer = dialer
        self._ssl_context = ssl_context

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response; its body is still to be read. Raises what httpcore, ssl and sockets raise."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=port_of(request.url),
            target=request.url.raw_path,
        )
        connection = httpcore.HTTPConnection(url.origin, ssl_context=self._ssl_context, network_backend=self._dialer)
        response = connection.handle_request(
            httpcore.Request(request.method, url, headers=request.headers.raw, content=request.content)
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        """Close the connection."""
        self._dialer.close()


class _Body(httpx.SyncByteStream):
    """The body of an httpcore response, as httpx likes it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()


def _connect(address: SocketAddress, seconds: float) -> socket.socket:
    """Return a socket connected to the address within the seconds, or raise ``OSError``."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        # Head and body are two writes: without this the second waits up to 40 ms for the first one's delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    """Turn a failed write into what httpcore reads on after: a server may answer 413 and close while we still write."""
    try:
        yield
    except OSError:
        raise httpcore.WriteError from None
