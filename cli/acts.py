"""The operator's acts: recorded in the journal before they take effect, with who, from where and what.

Every command is an act unless it says that it is none (`Trace`), so that a new one cannot be forgotten. An act whose
record cannot be written is not done. What became of it is a second record; an act without one was broken off.
"""

import functools
import getpass
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from botocore.exceptions import ClientError

from chalicelib.clock import rfc3339
from chalicelib.errors import PanelgateError
from chalicelib.redaction import REDACTED, redact, redact_all
from chalicelib.settings import VERSION
from cli.chain import ACT, OUTCOME, Record
from cli.journal import NO_SUCH, Journal

if TYPE_CHECKING:
    from cli.console import Aws, Console

TYPED = "cli.acts.typed"
"""Under this name a context keeps its options and arguments as they were typed."""
MAX_TEXT = 2000
"""Characters of one argument that are kept."""
# A URL, from its place on: who asks, where, and what else.
_URL = re.compile(r"(?<=://)([^/?#\s]*@)?([^?#\s]*[?#]?)(\S*)")


class Unreadable(PanelgateError):
    """A record of the journal does not say what ours say."""


class Trace(Enum):
    """What a command leaves in the journal."""

    ACT = auto()
    """A record before it begins."""
    OWN = auto()
    """A record that it writes itself, as soon as there is a journal: it puts the journal in place."""
    NONE = auto()
    """Nothing, for it changes nothing of a stage."""


def redacted(value: object) -> object:
    """Return an argument as the journal may keep it."""
    return redact_all(value, _kept)


def _kept(text: str) -> str:
    text = redact(_URL.sub(_place, text))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _place(url: re.Match[str]) -> str:
    user, place, rest = url.groups()
    return f"{REDACTED if user else ''}{place}{REDACTED if rest else ''}"


@dataclass
class Act:
    """One run of a command that changes something."""

    name: str
    arguments: Mapping[str, Any]
    record: Record | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, context: click.Context) -> "Act":
        """Return the act that a command line asks for, in the words that were typed, and with the defaults' words."""
        typed = context.meta[TYPED]
        chosen = {
            param.name: typed[param.name] if param.name in typed else param.get_default(context)
            for param in context.command.params
            if param.name
        }
        given = {name: value for name, value in chosen.items() if isinstance(value, str | bool | int | list | tuple)}
        return cls(context.command_path.partition(" ")[2], given)

    @property
    def tenant(self) -> str | None:
        """The tenant that it is about, if it is about one."""
        if "client" in self.arguments:  # a client's id begins with its tenant's
            return str(self.arguments["client"]).rpartition(".")[0] or None
        return self.arguments.get("tenant")

    def begin(self, console: "Console") -> None:
        """Record that it is about to be done.

        Raises:
            Exception: whatever keeps it from being recorded.
        """
        self.record = console.journal.append(
            {
                "kind": ACT,
                "at": rfc3339(time.time_ns() // 1000),
                "act": self.name,
                "tenant": redacted(self.tenant),
                "arguments": redacted(self.arguments),
                "stage": console.stage,
                "who": identity(console.aws),
                "from": origin(console.aws),
                "version": VERSION,
            }
        )

    def begin_if_possible(self, console: "Console") -> bool:
        """Record that it is about to be done, unless the stage has no journal yet; return whether it was recorded."""
        try:
            self.begin(console)
        except ClientError as error:
            if error.response["Error"]["Code"] != NO_SUCH:
                raise
            return False
        return True

    def end(self, console: "Console", error: BaseException | None) -> None:
        """Record what became of it, if its beginning was recorded; it has been done, so a failure is told only."""
        if self.record is None:
            return
        record, self.record = self.record, None
        content = {
            "kind": OUTCOME,
            "at": rfc3339(time.time_ns() // 1000),
            "of": record.number,
            **outcome(error),
            "facts": redacted(self.facts),
        }
        try:
            console.journal.append(content)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the act is done, and is not to look as if it failed
            console.progress(f"The outcome of {self.name} could not be recorded ({type(failure).__name__}).")


def outcome(error: BaseException | None) -> dict[str, object]:
    """Return how a run ended. Only sentences that were made for people are kept: another text may quote a secret."""
    match error:
        case None | click.exceptions.Exit(exit_code=0):
            return {"outcome": "done"}
        case click.Abort() | KeyboardInterrupt():
            return {"outcome": "interrupted"}
        case click.ClickException():
            return {"outcome": "failed", "reason": redacted(error.format_message())}
        case PanelgateError():
            return {"outcome": "failed", "reason": redacted(str(error))}
        case ClientError():
            code = error.response["Error"].get("Code")
            return {"outcome": "failed", "reason": f"AWS refused {error.operation_name}: {code}"}
    return {"outcome": "failed", "reason": type(error).__name__}


@contextmanager
def watched(console: "Console", act: Act) -> Iterator[None]:
    """Record an act's outcome when its command has ended."""
    try:
        yield
    except BaseException as error:
        act.end(console, error)
        raise
    act.end(console, None)


# --- Who, and from where ----------------------------------------------------------------------------------------------


@functools.cache
def identity(aws: "Aws") -> dict[str, str]:
    """Return whom AWS takes this command for."""
    caller = aws.session.client("sts", endpoint_url=aws.endpoint).get_caller_identity()
    return {"arn": caller["Arn"], "account": caller["Account"]}


@functools.cache
def origin(aws: "Aws") -> dict[str, str | None]:
    """Return where this command runs: the machine's name, its address on the way to AWS, the user."""
    return {"host": socket.gethostname(), "address": _address(aws), "user": _user()}


def _address(aws: "Aws") -> str | None:
    """Return this machine's address on the way to AWS. Nothing is sent to learn it."""
    place = urlsplit(aws.session.client("dynamodb", endpoint_url=aws.endpoint).meta.endpoint_url)
    try:
        host, port = socket.getaddrinfo(place.hostname, place.port or 443, type=socket.SOCK_DGRAM)[0][4][:2]
        family = socket.AF_INET6 if ":" in str(host) else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
    except OSError:  # no name or no way; AWS may still be reached through a proxy
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return None


# --- Reading them back ------------------------------------------------------------------------------------------------


def acts(journal: Journal, since: str = "") -> list[dict[str, Any]]:
    """Return acts, oldest first, each with its outcome: `done`, `failed`, `interrupted`, or None.

    Args:
        journal: where they are recorded.
        since: only those that began or ended then or later, as RFC 3339 in UTC. A record cannot be older than those
            before it, though its machine's clock may say so.

    Raises:
        Unreadable: a record is none of ours.
    """
    found: dict[int, dict[str, Any]] = {}
    recent: set[int] = set()
    at = ""
    for record in journal.records():
        try:
            of = _add(found, record.content)
        except (ValueError, TypeError):
            raise Unreadable(
                f"record {record.number} of the journal cannot be read; `panelgate audit verify` says what is wrong"
            ) from None
        at = max(at, record.content["at"])
        if at >= since:
            recent.add(of)
    return [act for number, act in found.items() if number in recent]


_SHOWN = ("record", "at", "act", "tenant", "arguments", "who", "from")


def _add(found: dict[int, dict[str, Any]], content: Mapping[str, Any]) -> int:
    """Add what a record says to the acts, and return the number of the act that it tells of."""
    match content:
        case {
            "kind": "act",
            "record": int(number),
            "at": str(),
            "act": str(),
            "tenant": str() | None,
            "arguments": dict(),
            "who": {"arn": str()},
            "from": {"host": str()},
        }:
            shown = {name: content[name] for name in _SHOWN}
            found[number] = {**shown, "outcome": None, "ended_at": None, "reason": None, "facts": {}}
            return number
        case {"kind": "outcome", "of": int(number), "at": str(at), "outcome": str()}:
            if number in found:
                told = {name: content.get(name) for name in ("outcome", "reason", "facts")}
                found[number] |= {**told, "ended_at": at}
            return number
    raise ValueError
