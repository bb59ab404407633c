"""What counts as an answer, and what goes over the wire to get it."""

import pytest

from chalicelib.panels.dialect import Request

from .conftest import KEY, order, send
from .scripted import Scripted, listening, replying, response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        pytest.param(response(b"{}"), 200, b"{}", id="sized"),
        pytest.param(response(b"{}", sized=False), 200, b"{}", id="ended by FIN"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n{}", 200, b"{}", id="HTTP/1.0"),
        pytest.param(CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}", id="chunked"),
        pytest.param(CHUNKED + b"2;a=b\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"{}", id="chunked with a trailer"),
        pytest.param(b"HTTP/1.1 102 Wait\r\n\r\n" * 3 + response(b"{}"), 200, b"{}", id="after some 1xx"),
        pytest.param(response(b"{}") + b"HTTP/1.1 500 Smuggled\r\n\r\n", 200, b"{}", id="with bytes behind it"),
        pytest.param(response(b""), 200, b"", id="empty"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="no content"),
        pytest.param(response(b"<html>", status=b"502 Bad Gateway"), 502, b"<html>", id="502"),
        pytest.param(response(b"slow down", status=b"429 Too Many"), 429, b"slow down", id="429"),
        pytest.param(response(b"{}", b"Content-Encoding: Identity"), 200, b"{}", id="identity"),
    ],
)
def test_a_whole_reply_is_handed_back(said: bytes, status: int, body: bytes) -> None:
    with Scripted(replying(said)) as server:
        reply = send(server.url)

    assert (reply.status, reply.body) == (status, body)


def test_header_names_are_lower_case_and_values_latin_1() -> None:
    lines = (b"Retry-After: 7", b"X-Note: caf\xe9 \xc3\xa9", b"VIA: a", b"via: b")
    with Scripted(replying(response(b"{}", *lines))) as server:
        reply = send(server.url)

    assert reply.headers == {"retry-after": "7", "x-note": "café Ã©", "via": "a, b", "content-length": "2"}


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See", b"307 Again", b"308 Gone"])
def test_a_redirect_is_a_reply_and_is_not_followed(status: bytes) -> None:
    with Scripted(listening) as elsewhere:
        location = b"Location: " + elsewhere.url.encode()
        with Scripted(replying(response(b"", location, status=status))) as server:
            reply = send(server.url)
            heard = server.heard()

        assert reply.status == int(status[:3])
        assert reply.headers["location"] == elsewhere.url
        assert (len(heard), elsewhere.heard()) == (1, [])


def test_the_request_is_written_as_the_dialect_made_it() -> None:
    with Scripted(replying(response())) as server:
        send(server.url + "?panel=1")
        head, _, body = server.heard()[0].partition(b"\r\n\r\n")

    assert body == order().body
    first, *lines = head.decode().split("\r\n")
    assert first == "POST /api/v2?panel=1 HTTP/1.1"
    assert {name.lower(): value for name, value in (line.split(": ") for line in lines)} == {
        "host": f"localhost:{server.port}",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(order().body)),
        "user-agent": "panelgate",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_a_dialect_decides_neither_target_nor_framing() -> None:
    headers = {
        "HOST": "other.example",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Connection": "keep-alive",
        "Accept-Encoding": "gzip",
        "User-Agent": "theirs",
    }
    with Scripted(replying(response())) as server:
        send(server.url, Request(body=b"a=b", headers=headers))
        heard = server.heard()[0].lower()

    assert sorted(heard.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]) == [
        "accept-encoding: identity",
        "connection: close",
        "content-length: 3",
        f"host: localhost:{server.port}",
        "user-agent: theirs",
    ]


def test_a_get_has_no_body() -> None:
    with Scripted(replying(response())) as server:
        send(server.url, Request(body=b"", headers={}, method="GET"))

        assert server.heard()[0].startswith(b"GET /api/v2 HTTP/1.1\r\n")
        assert b"content-length" not in server.heard()[0].lower()


def test_every_send_has_a_connection_of_its_own_and_brings_no_cookie() -> None:
    kept = response(b"{}", b"Set-Cookie: session=1", b"Connection: keep-alive")
    with Scripted(replying(kept)) as server:
        send(server.url)
        send(server.url)

        assert len(server.heard()) == 2
        assert not any(b"cookie" in heard.lower() for heard in server.heard())


def test_proxies_and_passwords_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine localhost login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Scripted(listening) as proxy, Scripted(replying(response())) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        send(server.url)

        assert proxy.heard() == []
        assert b"authorization" not in server.heard()[0].lower()


def test_request_and_reply_show_neither_body_nor_headers() -> None:
    with Scripted(replying(response(KEY.encode(), b"X-Echo: " + KEY.encode()))) as server:
        reply = send(server.url)

    assert KEY in reply.headers["x-echo"]
    assert KEY not in repr(reply) + repr(order())
