"""A proxy between a Lambda and all that it calls, which kills the Lambda's process at a chosen call."""

import http.client
import os
import signal
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import psutil

PANEL = "/panel"


@dataclass
class KillingProxy:
    """Forwards to AWS, and below ``/panel`` to the sandbox; counts the calls and kills the caller at one of them.

    ``kill_at`` is the number of a call, from 0; ``after`` says whether the call is let through first.
    """

    aws: str
    sandbox: str
    kill_at: int | None = None
    after: bool = False
    calls: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> str:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy.handle(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arm(self, kill_at: int | None, *, after: bool = False) -> None:
        with self._lock:
            self.kill_at, self.after = kill_at, after
            self.calls.clear()
            self.killed.clear()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            number = len(self.calls)
            self.calls.append(request.headers.get("X-Amz-Target") or request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        mine = number == self.kill_at
        if mine and not self.after:
            self._kill(request)
            return
        status, headers, answer = self._forward(request, body)
        if mine:
            self._kill(request)
            return
        request.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        panel = request.path.startswith(PANEL)
        target = urlsplit(self.sandbox if panel else self.aws)
        assert target.hostname is not None
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=30)
        path = request.path.removeprefix(PANEL) if panel else request.path
        connection.putrequest(request.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():  # the Host too: it is signed
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        answer = reply.read()
        connection.close()
        return reply.status, reply.getheaders(), answer

    def _kill(self, request: BaseHTTPRequestHandler) -> None:
        """Kill the process at the other end of the connection, as a crash would: without notice."""
        port = request.client_address[1]
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr[1] == port and connection.pid not in {None, os.getpid()}:
                assert connection.pid is not None
                os.kill(connection.pid, signal.SIGKILL)
                self.killed.append(connection.pid)
        request.close_connection = True
