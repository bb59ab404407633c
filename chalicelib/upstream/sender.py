"""The sender: a request to a provider ends as a reply, as *never sent* or as *answer lost*."""

import socket
import ssl
import threading
import time
from collections.abc import Callable

import httpcore
import httpx

from chalicelib.errors import AnswerLost, NeverSent
from chalicelib.panels.dialect import Reply, Request
from chalicelib.upstream.address import parse_url
from chalicelib.upstream.wire import Dialer, OneShot, Resolve, Stopped, Watch

FIXED_HEADERS = {
    "accept-encoding": "identity",  # a reply of 492 bytes, gzipped twice, unfolds to 200 MB
    "connection": "close",
}
OUR_HEADERS = {"host", "content-length", "transfer-encoding", *FIXED_HEADERS}
"""What a dialect does not decide: where the request goes and how it is framed."""

_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    # The first that fits. No text of an exception is passed on: httpx, ssl and getaddrinfo put hosts and headers in.
    (ssl.SSLCertVerificationError, "certificate not valid"),
    (ssl.SSLError, "TLS failed"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "connection refused"),
    (OSError, "connection failed"),
    (httpcore.LocalProtocolError, "request not valid HTTP"),
    (UnicodeError, "request not valid HTTP"),
    (httpcore.RemoteProtocolError, "reply not valid HTTP"),
)


class Sender:
    """Sends requests to providers. Threads may share it; it keeps nothing but its TLS context.

    Each send has a connection of its own. A reply lost on a kept connection looks like one that was never sent for, and
    on Lambda kept sockets die while the container is frozen; a new TLS connection costs about 2 ms of CPU.
    """

    def __init__(  # noqa: PLR0913  seams for the tests; production gives one of them
        self,
        *,
        allow_loopback: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        resolve: Resolve = socket.getaddrinfo,
        ssl_context: ssl.SSLContext | None = None,
        user_agent: str = "panelgate",
    ) -> None:
        """Make a sender.

        Args:
            allow_loopback: for the local stage: http and https to loopback, and to nothing else.
            clock: epoch seconds.
            monotonic: seconds that only grow, at the pace of the sockets' timeouts.
            resolve: looks a name up, as ``socket.getaddrinfo`` does.
            ssl_context: by default one with the system's certificates, made at the first https send. Making it takes
                some 30 ms of CPU: whoever has a faster moment for that, such as Lambda's init, hands one in.
            user_agent: what we call ourselves, where a dialect does not say.
        """
        self._allow_loopback = allow_loopback
        self._clock, self._monotonic = clock, monotonic
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._ssl_lock = threading.Lock()
        self._user_agent = user_agent

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        """Send a request once and return the whole reply, whatever its status; redirects are replies too.

        Args:
            url: the provider's URL.
            request: what to send.
            deadline: when it all must be over, in epoch seconds by ``clock``.
            send_by: when sending must have begun, likewise; from that moment on nothing is written.

        Raises:
            NeverSent: no byte of the request was written: the URL, name, address, connection or TLS failed, the request
                cannot be written as HTTP, or the time was up.
            AnswerLost: writing began, and no whole reply that we can read came back; the provider may have acted.
        """
        watch = Watch(
            deadline=deadline,
            send_by=send_by,
            max_bytes=request.max_reply,
            clock=self._clock,
            monotonic=self._monotonic,
        )
        try:
            return self._exchange(url, request, watch)
        except Exception as error:  # noqa: BLE001  whatever it is, what counts is whether we had begun
            cause = _cause(error)
        # Raised out here, so that no chain leads to an exception that names the host or shows a header.
        raise AnswerLost(cause) if watch.begun else NeverSent(cause)

    def _exchange(self, url: str, request: Request, watch: Watch) -> Reply:
        outgoing = self._outgoing(url, request)
        context = self._tls() if outgoing.url.scheme == "https" else None
        dialer = Dialer(watch, self._resolve, allow_loopback=self._allow_loopback)
        with OneShot(dialer, context) as transport:
            return _reply(transport.handle_request(outgoing), watch)

    def _outgoing(self, url: str, request: Request) -> httpx.Request:
        """Return the request as it goes out. httpx adds Host and Content-Length."""
        try:
            target = parse_url(url, allow_loopback=self._allow_loopback)
        except ValueError:
            raise Stopped("URL not allowed") from None
        if request.query:
            target = target.copy_with(query=b"&".join(filter(None, (target.query, request.query.encode()))))
        said = {name.lower(): value for name, value in request.headers.items() if name.lower() not in OUR_HEADERS}
        headers = {"user-agent": self._user_agent, **said, **FIXED_HEADERS}
        return httpx.Request(request.method, target, headers=headers, content=request.body)

    def _tls(self) -> ssl.SSLContext:
        """Return the one TLS context: certificates and host names are checked, TLS 1.2 or later."""
        with self._ssl_lock:
            if self._ssl_context is None:
                self._ssl_context = ssl.create_default_context()
            return self._ssl_context


def _reply(response: httpx.Response, watch: Watch) -> Reply:
    """Read a response to its end. The watch sees to its size; here are only the bytes that it let through."""
    response.headers.encoding = "latin-1"  # what HTTP says; by itself httpx guesses
    coding = response.headers.get("content-encoding", "")
    if coding.strip().lower() not in {"", "identity"}:
        raise Stopped("reply encoded against our wish")
    body = bytearray()
    for chunk in response.iter_raw():
        watch.left()  # one read may hold thousands of tiny chunks
        body += chunk
    return Reply(status=response.status_code, headers=dict(response.headers.items()), body=bytes(body))


def _cause(error: Exception) -> str:
    """Return a short cause that names no URL, key or address."""
    if isinstance(error, Stopped):
        return str(error)
    return next((text for kind, text in _CAUSES if isinstance(error, kind)), f"unexpected {type(error).__name__}")
