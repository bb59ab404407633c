"""Transcripts: what a panel was asked and what it answered, one exchange per file.

A file is like an HTTP message: ``name: JSON`` lines, an empty line, and the reply's body as it came. The names are

- ``document``: where the exchange comes from;
- ``call``: ``action`` and the call's own fields;
- ``sends`` and ``sends-headers`` (optional): the fields and headers that the request must carry;
- ``http`` (200) : the reply's status;
- ``answer``: the type and fields of what it means; fields not named are None or empty.

Provider keys are always ``YOUR_API_KEY``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from chalicelib.actions import Action, Answer, Call, GetBalance, GetStatus, ListServices, PlaceOrder
from chalicelib.panels.dialect import Reply

FOLDER = Path(__file__).parent / "transcripts"
KEY = "YOUR_API_KEY"

CALLS: Mapping[str, type[Call]] = {
    Action.BALANCE: GetBalance,
    Action.SERVICES: ListServices,
    Action.ADD: PlaceOrder,
    Action.STATUS: GetStatus,
}


@dataclass(frozen=True)
class Transcript:
    document: str
    call: Call
    reply: Reply
    answer: Mapping[str, Any]
    sends: Mapping[str, Any] | None
    sends_headers: Mapping[str, str]


def names(dialect: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / dialect).glob("*.txt"))


def load(dialect: str, name: str) -> Transcript:
    head, _, body = (FOLDER / dialect / f"{name}.txt").read_bytes().partition(b"\n\n")
    given = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in head.decode().splitlines())}
    asked = given["call"]
    return Transcript(
        document=given["document"],
        call=CALLS[asked.pop("action")](**asked),
        reply=Reply(given.get("http", 200), {}, body),
        answer=given["answer"],
        sends=given.get("sends"),
        sends_headers=given.get("sends-headers", {}),
    )


def written(answer: Answer) -> Mapping[str, Any]:
    """Write an answer as transcripts do."""
    return {type(answer).__name__: _plain(answer)}


def _plain(value: object) -> Any:
    if is_dataclass(value):
        given = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        optional = {field.name for field in fields(value)} - {"refill", "cancel", "dripfeed", "services", "category"}
        return {
            name: part
            for name, part in given.items()
            if part is not None and (name not in optional or (part is not False and part not in ([], {})))
        }
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
