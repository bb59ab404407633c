"""Sending an answer, whole or in one of the ways in which answers go wrong on the road."""

import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus

from sandbox import jsontext
from sandbox.messages import Reply

JSON = ("Content-Type", "application/json")
"""Without a charset: a client is known that compares the header for equality."""

SLICE = 0.05
"""How often a waiting delivery looks whether the sandbox is stopping."""

CHUNK = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
CHUNK_EVERY = 0.002
"""An endless body at about 2 MB/s: fast enough to pass any cap, slow enough to leave the machine to others."""


@dataclass(frozen=True)
class Parcel:
    """An answer as bytes."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (JSON,)

    def head(self, *framing: tuple[str, str]) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *framing)]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1", "replace")

    def whole(self) -> bytes:
        """All of it, correctly framed."""
        return self.head(("Content-Length", str(len(self.body)))) + self.body


def pack(reply: Reply) -> Parcel:
    """A reply as its panel would send it."""
    return Parcel(reply.status, jsontext.dump(reply.body).encode())


class Wire:
    """A connection whose request has been read."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._stopping = stopping

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._connection.sendall(data)

    def pause(self, seconds: float) -> bool:
        """Wait; True when the sandbox stops meanwhile."""
        return self._stopping.wait(seconds)

    def wait_for_close(self, seconds: float) -> None:
        """Stay silent until the client closes, the time is up or the sandbox stops."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stopping.is_set():
            readable, _, _ = select.select([self._connection], [], [], SLICE)
            if readable and not self._connection.recv(65536):
                return

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The server would say a polite goodbye first, so the socket is taken out of its hands.
        os.close(self._connection.detach())


# Each way of delivery takes the wire, the parcel and the fault's seconds. It returns whether the connection lives on.


def send_whole(wire: Wire, parcel: Parcel, _seconds: float) -> bool:
    """As it should be."""
    wire.send(parcel.whole())
    return True


def send_late(wire: Wire, parcel: Parcel, seconds: float) -> bool:
    """After a while."""
    return not wire.pause(seconds) and send_whole(wire, parcel, 0)


def stay_silent(wire: Wire, _parcel: Parcel, seconds: float) -> bool:
    """Not a byte."""
    wire.wait_for_close(seconds)
    return False


def hang_up(_wire: Wire, _parcel: Parcel, _seconds: float) -> bool:
    """FIN instead of an answer."""
    return False


def reset(wire: Wire, _parcel: Parcel, _seconds: float) -> bool:
    """RST instead of an answer."""
    wire.reset()
    return False


def send_truncated(wire: Wire, parcel: Parcel, _seconds: float) -> bool:
    """Half of the body that the header promises."""
    wire.send(parcel.head(("Content-Length", str(len(parcel.body)))) + parcel.body[: len(parcel.body) // 2])
    return False


def drip_all(wire: Wire, parcel: Parcel, seconds: float) -> bool:
    """Byte by byte from the status line on."""
    return _drip(wire, parcel.whole(), seconds)


def drip_body(wire: Wire, parcel: Parcel, seconds: float) -> bool:
    """Headers at once, then the body byte by byte."""
    wire.send(parcel.head(("Content-Length", str(len(parcel.body)))))
    return _drip(wire, parcel.body, seconds)


def _drip(wire: Wire, data: bytes, every: float) -> bool:
    for place in range(len(data)):
        wire.send(data[place : place + 1])
        if wire.pause(every):
            return False
    return True


def send_endless(wire: Wire, parcel: Parcel, seconds: float) -> bool:
    """The body and then blanks in chunks, until the client closes or the time is up."""
    wire.send(parcel.head(("Transfer-Encoding", "chunked")) + b"%x\r\n%b\r\n" % (len(parcel.body), parcel.body))
    end = time.monotonic() + seconds
    while time.monotonic() < end and not wire.pause(CHUNK_EVERY):
        wire.send(CHUNK)
    return False
