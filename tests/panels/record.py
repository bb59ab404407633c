"""Asks a live panel and writes what it answered as a transcript: ``python -m tests.panels.record --help``.

The provider key comes from standard input or a hidden prompt. Neither it nor the panel's host name nor any IP address
gets into the file. Customers, links and everything else that is somebody's is left to the person who reads the file
before it is added.
"""

import argparse
import ipaddress
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalicelib.actions import Action
from chalicelib.errors import SendFailure, UnreadableReply
from chalicelib.keys import ProviderKey, check_provider_key
from chalicelib.panels import DIALECTS, reading
from chalicelib.panels.dialect import Dialect, Reply
from chalicelib.redaction import REDACTED, redact, redact_body, redact_whole
from chalicelib.upstream import Sender

from . import transcripts

SECONDS = 25
# What these names stand for belongs to nobody (RFC 2606, RFC 5737, RFC 3849).
NO_HOST, NO_IPV4, NO_IPV6 = "panel.example", "192.0.2.1", "2001:db8::1"
SPENDING = frozenset({Action.ADD, Action.REFILL, Action.CANCEL})
NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
ADDRESS = re.compile(
    rb"(?<![0-9A-Za-z:.])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
)

Ask = Callable[[], str]


class CannotRecord(Exception):
    """Nothing was written; the text says why."""


@dataclass(frozen=True)
class Wanted:
    """What to ask whom, and where to write it."""

    dialect: Dialect
    url: str
    call: dict[str, Any]
    path: Path
    local: bool


def main(arguments: list[str] | None = None, ask: Ask | None = None) -> int:
    """Record one exchange; return 0, or 1 if it could not be recorded (2 for wrong use)."""
    options = _parser().parse_args(arguments)
    try:
        wanted = _wanted(options)
        record(wanted, _key(ask or _ask))
    except CannotRecord as error:
        print(f"record: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return 1
    print(f"{wanted.path}: read it before you add it; links, customers and balances are still in it")  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.panels.record", description=__doc__)
    parser.add_argument("dialect", choices=sorted(DIALECTS), help="how the panel speaks")
    parser.add_argument("url", help="the panel's URL, as in `panelgate providers add`")
    parser.add_argument("name", help="the name of the transcript, such as status-batch")
    parser.add_argument("call", help="""what to ask, such as '{"action": "status", "order": 12}'""")
    parser.add_argument("--folder", type=Path, default=transcripts.FOLDER, help="where the dialects' folders are")
    parser.add_argument(
        "--buy", action="store_true", help="allow add, refill and cancel: they change or cost something"
    )
    parser.add_argument("--local", action="store_true", help="ask a panel on this machine, and no other")
    return parser


def _wanted(options: argparse.Namespace) -> Wanted:
    try:
        call = json.loads(options.call)
        action = call["action"]
        transcripts.call(call)
    except (ValueError, KeyError, TypeError) as error:
        raise CannotRecord(f"this is no call: {options.call} ({type(error).__name__}: {error})") from None
    if action in SPENDING and not options.buy:
        raise CannotRecord(f"{action} changes or costs something at the panel; say --buy if that is wanted")
    if not NAME.fullmatch(options.name):
        raise CannotRecord(f"a transcript's name has small letters, digits and hyphens: {options.name}")
    path = options.folder / options.dialect / f"{options.name}.txt"
    if path.exists():
        raise CannotRecord(f"there is a transcript {path}")
    return Wanted(DIALECTS[options.dialect], options.url, call, path, options.local)


def _ask() -> str:
    return getpass("Provider key: ") if sys.stdin.isatty() else sys.stdin.readline()


def _key(ask: Ask) -> ProviderKey:
    try:
        return ProviderKey(check_provider_key(ask()), "recorded")
    except ValueError as error:
        raise CannotRecord(str(error)) from None


def record(wanted: Wanted, key: ProviderKey) -> None:
    """Ask the panel and write the transcript.

    Raises:
        CannotRecord: the dialect has no such call, no reply came, or the key could not be scrubbed from it.
    """
    call = transcripts.call(wanted.call)
    try:
        request = wanted.dialect.encode(call, key.value)
        sender = Sender(allow_loopback=wanted.local)
        came = sender.send(wanted.url, request, deadline=time.time() + SECONDS)
    except (ValueError, SendFailure) as error:
        raise CannotRecord(str(error)) from None
    reply = Reply(came.status, {}, scrubbed(came.body, wanted.url))
    try:
        answer = transcripts.written(wanted.dialect.decode(call, reply))
    except UnreadableReply:
        answer = {"UnreadableReply": {}}
    given = {
        "document": f"recorded from a live panel, {datetime.now(UTC):%Y-%m-%d}",
        "call": json.loads(redact(json.dumps(wanted.call))),
        "http": reply.status,
        "answer": answer,
    }
    transcripts.save(wanted.path, given, reply.body)


def scrubbed(body: bytes, url: str) -> bytes:
    """Return a reply's body with neither a known key, nor the panel's host name, nor any address in it.

    Raises:
        CannotRecord: the key is still in it, in a spelling that is not known.
    """
    body = redact_body(body).replace(REDACTED.encode(), transcripts.KEY.encode())
    for host in _host_names(url):
        body = re.sub(re.escape(host), NO_HOST.encode(), body, flags=re.IGNORECASE)
    body = ADDRESS.sub(_nobody, body)
    if any(redact_whole(text) != text for text in _read_otherwise(body)):
        raise CannotRecord("the reply still holds the key, in a spelling that cannot be scrubbed; nothing was written")
    return body


def _host_names(url: str) -> Iterator[bytes]:
    """Yield the host and the domain that it belongs to, the longest first, in each of their spellings."""
    labels = (urlsplit(url).hostname or "").split(".")
    for name in (".".join(labels), ".".join(labels[-2:])):
        if name and not name.replace(".", "").isdigit():
            ascii_name = name.encode("idna")
            unicode_name = ascii_name.decode("idna")
            yield from {ascii_name, unicode_name.encode(), json.dumps(unicode_name)[1:-1].encode()}


def _nobody(match: re.Match[bytes]) -> bytes:
    text = match[0].decode()
    ends = text.rstrip(":.")
    try:
        address = ipaddress.ip_address(ends)
    except ValueError:
        return match[0]
    return (NO_IPV4 if address.version == 4 else NO_IPV6).encode() + match[0][len(ends) :]


def _read_otherwise(body: bytes) -> Iterator[str]:
    yield body.decode("utf-8", "replace")
    yield body.decode("utf-16", "replace")
    try:
        yield json.dumps(reading.document(body), ensure_ascii=False, default=str)
    except UnreadableReply:
        return


if __name__ == "__main__":
    sys.exit(main())
