"""Where a provider may live: the guard against requests into our own or other private networks (SSRF).

A URL is judged twice. ``parse_url`` judges its text, when a provider is added and before each send. ``is_allowed``
judges every address that the name resolves to, and the connection goes to the very address that was judged: names that
look harmless resolve to loopback (``localhost`` with a full-width dot, or any name whose owner says so), and a name may
resolve to another address a moment later.
"""

import ipaddress
import re
from collections.abc import Iterator

import httpx

IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address

DEFAULT_PORTS = {"https": 443, "http": 80}
FIRST_FREE_PORT = 1024
"""Panels are met on 443 and on high ports such as 8443. Below 1024 live other services: ssh, mail, LDAP."""

_HOST = re.compile(r"[a-z0-9_.:-]{1,253}", re.ASCII)
_NUMBER_AT_THE_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.ASCII)
"""A host whose last label is a number is an IPv4 address to ``inet_aton``: ``2130706433``, ``127.1``, ``0x7f.1``."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_GLOBAL_EITHER = (
    # ``is_global`` follows IANA's tables of the day a Python was released. These it misses, in some release or in all.
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments, Teredo among them: relays unwrap it to any IPv4 address
    ipaddress.IPv6Network("2002::/16"),  # 6to4, likewise; nobody's panel lives there (RFC 7526 ended it)
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)


def check_url(url: str, *, allow_loopback: bool = False) -> None:
    """Check the text of a provider's URL; no name is looked up.

    Args:
        url: the URL, which may hold a password by mistake: no message repeats any part of it.
        allow_loopback: for the local stage: plain http is allowed, and literal addresses must be loopback.

    Raises:
        ValueError: the URL is refused; the message is a sentence for the operator.
    """
    parse_url(url, allow_loopback=allow_loopback)


def parse_url(text: str, *, allow_loopback: bool) -> httpx.URL:
    """Return the parsed URL, or raise ``ValueError`` as ``check_url`` does."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("The URL cannot be read: check it for line ends and a misspelt host or port.") from None
    fault = next(_faults(url, text, allow_loopback=allow_loopback), None)
    if fault:
        raise ValueError(fault)
    return url


def port_of(url: httpx.URL) -> int:
    """Return the port to connect to; httpx gives None for the scheme's own."""
    return DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def is_allowed(address: IPv4 | IPv6, *, allow_loopback: bool) -> bool:
    """Say whether a connection to this address may be opened.

    Args:
        address: one that a name resolved to, or that a URL names.
        allow_loopback: for the local stage: then loopback is allowed and nothing else is.
    """
    target = _unwrapped(address)
    return target.is_loopback if allow_loopback else _is_public(target)


def _faults(url: httpx.URL, text: str, *, allow_loopback: bool) -> Iterator[str]:
    """Yield what is wrong with a URL, the plainest fault first."""
    schemes = ("https", "http") if allow_loopback else ("https",)
    host = url.raw_host.decode("ascii")
    if url.scheme not in schemes:
        yield f"The URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}."
        return
    if url.userinfo:
        yield "The URL must not hold a user name or password: the provider's key is kept apart from it."
    if "#" in text:
        yield "The URL must not hold a fragment (#…): it would never be sent."
    if not _HOST.fullmatch(host):
        yield "The URL needs a host name made of letters, digits, dots and hyphens."
    port = port_of(url)
    if port != DEFAULT_PORTS[url.scheme] and not FIRST_FREE_PORT <= port <= 65535:  # noqa: PLR2004  the last port
        yield f"The URL's port must be {DEFAULT_PORTS[url.scheme]}, or {FIRST_FREE_PORT} to 65535."
    yield from _literal_faults(host, allow_loopback=allow_loopback)


def _literal_faults(host: str, *, allow_loopback: bool) -> Iterator[str]:
    """Yield what is wrong with a host that is an address or looks like one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMBER_AT_THE_END.fullmatch(host):
            yield "The URL's host is a short form of an IP address: write the host's name."
        return
    if not is_allowed(address, allow_loopback=allow_loopback):
        kind = "a loopback address" if allow_loopback else "a public address"
        yield f"The URL's host must be {kind} or a name."


def _unwrapped(address: IPv4 | IPv6) -> IPv4 | IPv6:
    """Return the IPv4 address that a mapped or NAT64 address only writes differently, else the address itself.

    NAT64 must pass: in an IPv6-only subnet AWS's resolver returns every IPv4-only panel in this form (RFC 6147).
    """
    if isinstance(address, IPv6):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: IPv4 | IPv6) -> bool:
    """Say whether an address is global unicast.

    ``is_global`` alone is True for 224.0.0.1 and fec0::1; ``is_private`` alone is False for 100.64.0.0/10.
    """
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local)
        and not any(address in network for network in _NOT_GLOBAL_EITHER)
        and (isinstance(address, IPv4) or address in _GLOBAL_UNICAST)
    )
