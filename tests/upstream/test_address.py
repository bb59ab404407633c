"""Requests into networks that are nobody's panel are refused before connecting."""

import ipaddress
import socket
from typing import Any

import pytest

from chalicelib.errors import NeverSent
from chalicelib.upstream import check_url
from chalicelib.upstream.address import is_allowed

from .conftest import send
from .scripted import Resolver, Scripted, listening, replying, response

REFUSED = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "169.254.169.254",  # metadata
    "169.254.170.2",  # a container's credentials
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:224.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",  # metadata
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
WRITTEN_DIFFERENTLY = ["::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address), allow_loopback=False)


@pytest.mark.parametrize("address", [*PUBLIC, *WRITTEN_DIFFERENTLY])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), allow_loopback=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_the_local_stage_may_reach_loopback(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), allow_loopback=True)


@pytest.mark.parametrize("address", [*PUBLIC, "10.0.0.1", "0.0.0.0", "169.254.169.254", "::", "fe80::1"])  # noqa: S104
def test_the_local_stage_may_reach_nothing_else(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address), allow_loopback=True)


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the addresses that anyone tries to connect to; nobody gets anywhere."""
    tried: list[Any] = []

    class Unconnected(socket.socket):
        def connect(self, address: Any) -> None:
            tried.append(address)
            raise ConnectionRefusedError

    monkeypatch.setattr(socket, "socket", Unconnected)
    return tried


@pytest.mark.parametrize("address", REFUSED)
def test_a_name_that_leads_there_is_never_sent(address: str, no_connections: list[Any]) -> None:
    resolver = Resolver([address])
    with pytest.raises(NeverSent, match="address not allowed"):
        send("https://panel.example/", resolve=resolver, allow_loopback=False)

    assert (resolver.asked, no_connections) == (["panel.example"], [])


@pytest.mark.parametrize("answer", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], [*["8.8.8.8"] * 9, "::1"]])
@pytest.mark.parametrize("allow_loopback", [True, False])
def test_one_bad_address_among_good_ones_is_never_sent(
    answer: list[str], no_connections: list[Any], *, allow_loopback: bool
) -> None:
    with pytest.raises(NeverSent, match="address not allowed"):
        send("https://panel.example/", resolve=Resolver(answer), allow_loopback=allow_loopback)

    assert no_connections == []


def test_the_connection_goes_to_the_checked_address_though_the_name_changes() -> None:
    """DNS rebinding: the second lookup would lead elsewhere, so there is none."""
    resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
    with Scripted(replying(response(b"{}"))) as server:
        url = f"http://rebind.example:{server.port}/"
        assert send(url, resolve=resolver).body == b"{}"

        assert resolver.asked == ["rebind.example"]
        assert f"Host: rebind.example:{server.port}\r\n".encode() in server.heard()[0]


def test_the_port_is_the_url_s_whatever_the_resolver_says(no_connections: list[Any]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 22))]
    with pytest.raises(NeverSent, match="connection refused"):
        send("https://panel.example:8443/", resolve=lambda *_, **__: found, allow_loopback=False)

    assert no_connections == [("8.8.8.8", 8443)]


def test_a_few_addresses_are_tried_in_turn_and_each_once(no_connections: list[Any]) -> None:
    answer = ["8.8.8.8", "8.8.8.8", "2606:4700::1", "8.8.4.4", "1.1.1.1", "1.0.0.1"]
    with pytest.raises(NeverSent, match="connection refused"):
        send("https://panel.example/", resolve=Resolver(answer), allow_loopback=False)

    assert no_connections == [("8.8.8.8", 443), ("2606:4700::1", 443, 0, 0), ("8.8.4.4", 443), ("1.1.1.1", 443)]


GOOD_URLS = [
    "https://panel.example",
    "https://panel.example/api/v2",
    "https://PANEL.example:443/api/v2?x=1",
    "https://panel.example:8443/",
    "https://my_panel.example/",
    "https://bücher.example/",
    "https://8.8.8.8/",
    "https://[2606:4700::1111]:2053/",
]
BAD_URLS = [
    ("", "begin with"),
    ("panel.example/api", "begin with"),
    ("http://panel.example/", "begin with"),
    ("ftp://panel.example/", "begin with"),
    ("file:///etc/passwd", "begin with"),
    ("//panel.example/", "begin with"),
    ("https://", "host name"),
    ("https:///api", "host name"),
    ("https:panel.example", "host name"),
    ("https://panel example/", "host name"),
    ("https://panel%2eexample/", "host name"),
    ("https://[fe80::1%25eth0]/", "host name"),
    ("https://panel.example/\n", "cannot be read"),
    ("https://panel.example\r\n.example/", "cannot be read"),
    ("https://panel.example\x00/", "cannot be read"),
    ("https://[::1/", "cannot be read"),
    ("https://panel.example:port/", "cannot be read"),
    ("https://panel..example\u3002\u3002/", "cannot be read"),
    ("https://secret@panel.example/", "user name or password"),
    ("https://me:secret@panel.example/", "user name or password"),
    ("https://panel.example\\@127.0.0.1/", "user name or password"),
    ("https://panel.example/#secret", "fragment"),
    ("https://panel.example/#", "fragment"),
    ("https://panel.example:22/", "port"),
    ("https://panel.example:25/", "port"),
    ("https://panel.example:80/", "port"),
    ("https://panel.example:0/", "port"),
    ("https://panel.example:99999/", "port"),
    ("https://2130706433/", "short form"),
    ("https://0x7f000001/", "short form"),
    ("https://0x7f.1/", "short form"),
    ("https://127.1/", "short form"),
    ("https://0/", "short form"),
    ("https://127.0.0.1./", "short form"),
    ("https://0177.0.0.1/", "cannot be read"),
    ("https://127.0.0.1/", "public address"),
    ("https://169.254.170.2/", "public address"),
    ("https://[::1]/", "public address"),
    ("https://[::ffff:127.0.0.1]/", "public address"),
    ("https://[64:ff9b::7f00:1]/", "public address"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_url_passes(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(("url", "says"), BAD_URLS)
def test_a_bad_url_is_refused_in_a_sentence_that_does_not_repeat_it(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        check_url(url)

    assert str(caught.value).endswith(".")
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("url", [url for url, _ in BAD_URLS])
def test_a_bad_url_is_never_sent_nor_looked_up(url: str, no_connections: list[Any]) -> None:
    resolver = Resolver()
    with pytest.raises(NeverSent, match="URL not allowed"):
        send(url, resolve=resolver, allow_loopback=False)

    assert (resolver.asked, no_connections) == ([], [])


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/", "https://127.0.0.1:8443/", "http://[::1]:8080/x", "http://localhost/"]
)
def test_the_local_stage_takes_plain_http_to_loopback(url: str) -> None:
    check_url(url, allow_loopback=True)


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "https://10.0.0.1/", "http://localhost:22/", "ftp://localhost/"])
def test_the_local_stage_takes_no_other_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"The URL"):
        check_url(url, allow_loopback=True)


@pytest.mark.parametrize("host", ["localhost\u3002", "localhost.", "\uff4cocalhost"])
def test_a_name_that_only_looks_harmless_is_caught_where_it_leads(host: str) -> None:
    """Real lookups, of names that need no network."""
    with Scripted(listening) as server:
        with pytest.raises(NeverSent):
            send(f"https://{host}:{server.port}/", allow_loopback=False)

        assert server.heard() == []
