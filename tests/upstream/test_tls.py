"""TLS: who is on the other side is proved before a byte of the request leaves."""

import datetime as dt
import socket
import ssl
import time
import warnings

import pytest

from chalicelib.errors import AnswerLost, NeverSent
from chalicelib.panels.dialect import Request
from chalicelib.upstream import Sender

from .authority import DAY, Authority
from .conftest import order, send
from .scripted import Peer, Play, Resolver, Scripted, listening, replying, response


def test_a_reply_over_tls_is_handed_back(authority: Authority) -> None:
    body = b"x" * 200_000
    with Scripted(replying(response(body)), tls=authority.serving("localhost")) as server:
        reply = send(server.url, Request(body=body, headers={}), ssl_context=authority.trusting())

        assert reply.body == body
        assert server.heard()[0].endswith(body)


def test_the_name_is_checked_and_sent_though_the_connection_goes_to_an_address(authority: Authority) -> None:
    names = []
    context = authority.serving("panel.example")
    context.sni_callback = lambda _, name, __: names.append(name)
    with Scripted(replying(response()), tls=context, host="panel.example") as server:
        resolver = Resolver(["127.0.0.1"])
        send(server.url, resolve=resolver, ssl_context=authority.trusting())

        assert names == ["panel.example"]
        assert f"Host: panel.example:{server.port}\r\n".encode() in server.heard()[0]


def test_a_literal_address_is_checked_against_the_certificate(authority: Authority) -> None:
    with Scripted(replying(response(b"{}")), tls=authority.serving("127.0.0.1"), host="127.0.0.1") as server:
        assert send(server.url, ssl_context=authority.trusting()).body == b"{}"


@pytest.mark.parametrize(
    ("hosts", "lives"),
    [
        pytest.param(["panel.example"], DAY, id="wrong host"),
        pytest.param(["*.localhost"], DAY, id="wrong wildcard"),
        pytest.param(["localhost"], -DAY, id="expired"),
    ],
)
def test_a_bad_certificate_is_never_sent(authority: Authority, hosts: list[str], lives: dt.timedelta) -> None:
    with Scripted(listening, tls=authority.serving(*hosts, lives=lives)) as server:
        with pytest.raises(NeverSent, match="certificate not valid"):
            send(server.url, ssl_context=authority.trusting())

        assert b"".join(server.heard()) == b""


def test_an_authority_that_the_system_does_not_know_is_never_sent(authority: Authority) -> None:
    """Without a context of ours, the default one checks."""
    with Scripted(listening, tls=authority.serving("localhost")) as server:
        with pytest.raises(NeverSent, match="certificate not valid"):
            send(server.url)

        assert b"".join(server.heard()) == b""


def test_a_server_that_speaks_only_old_tls_is_never_sent(authority: Authority) -> None:
    context = authority.serving("localhost")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Scripted(listening, tls=context) as server, pytest.raises(NeverSent, match="TLS failed"):
        send(server.url, ssl_context=authority.trusting())


def garbage(peer: Peer) -> None:
    peer.sock.recv(65_536)
    peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def hang_up(peer: Peer) -> None:
    peer.sock.recv(65_536)


def reset(peer: Peer) -> None:
    peer.sock.recv(65_536)
    peer.reset()


@pytest.mark.parametrize("play", [listening, garbage, hang_up, reset])
def test_a_handshake_that_fails_is_never_sent(play: Play) -> None:
    with Scripted(play) as server, pytest.raises(NeverSent):
        send(server.url.replace("http:", "https:"), seconds=0.3)


def test_a_handshake_that_drips_is_never_sent() -> None:
    def drip(peer: Peer) -> None:
        peer.sock.recv(65_536)
        for byte in b"\x16\x03\x03\x40\x00\x02" + bytes(100):
            peer.say(bytes([byte]))
            time.sleep(0.02)

    with Scripted(drip) as server, pytest.raises(NeverSent, match=r"no time left|timeout"):
        send(server.url.replace("http:", "https:"), seconds=0.3)


def test_tls_broken_off_after_the_request_is_an_answer_lost(authority: Authority) -> None:
    def break_off(peer: Peer) -> None:
        peer.hear()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n")
        raw = peer.sock.detach()
        with socket.socket(fileno=raw) as sock:
            sock.sendall(b"no TLS record")

    with Scripted(break_off, tls=authority.serving("localhost")) as server, pytest.raises(AnswerLost):
        send(server.url, ssl_context=authority.trusting())


@pytest.mark.parametrize("farewell", [True, False])
def test_a_reply_without_a_length_needs_tls_to_say_goodbye(authority: Authority, *, farewell: bool) -> None:
    """A cut connection must not pass for the end of the reply: FIN can be forged, close_notify cannot."""

    def play(peer: Peer) -> None:
        peer.hear()
        peer.say(response(b"{}", sized=False))
        if farewell:
            assert isinstance(peer.sock, ssl.SSLSocket)
            peer.sock.unwrap()

    with Scripted(play, tls=authority.serving("localhost")) as server:
        if farewell:
            assert send(server.url, ssl_context=authority.trusting()).body == b"{}"
        else:
            with pytest.raises(AnswerLost, match="TLS failed"):
                send(server.url, ssl_context=authority.trusting())


def test_the_default_context_is_made_once(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = [authority.trusting()]
    monkeypatch.setattr(ssl, "create_default_context", contexts.pop)
    sender = Sender(allow_loopback=True)
    with Scripted(replying(response()), tls=authority.serving("localhost")) as server:
        for _ in range(2):
            assert sender.send(server.url, order(), deadline=time.time() + 3).status == 200
