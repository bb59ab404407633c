"""Transcripts: what a panel was asked and what it answered, one exchange per file.

A file is like an HTTP message: ``name: JSON`` lines, an empty line, and the reply's body as it came. The names are

- ``document``: where the exchange comes from;
- ``call``: ``action`` and the call's own fields, the ids of a batch as an array;
- ``sends`` and ``sends-headers`` (optional): the fields and headers that the request must carry;
- ``http`` (200) : the reply's status;
- ``answer``: the type and fields of what it means; fields not named are None or empty. The answer to a batch holds an
  answer per id.

Provider keys are always ``YOUR_API_KEY``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from chalicelib.actions import (
    Action,
    Answer,
    Call,
    GetBalance,
    GetRefill,
    GetRefills,
    GetStatus,
    GetStatuses,
    Items,
    ListServices,
    PlaceOrder,
    RequestCancel,
    RequestCancels,
    RequestRefill,
    RequestRefills,
)
from chalicelib.panels.dialect import Reply

FOLDER = Path(__file__).parent / "transcripts"
KEY = "YOUR_API_KEY"

SINGLES: Mapping[str, type[Call]] = {
    Action.BALANCE: GetBalance,
    Action.SERVICES: ListServices,
    Action.ADD: PlaceOrder,
    Action.STATUS: GetStatus,
    Action.REFILL: RequestRefill,
    Action.REFILL_STATUS: GetRefill,
    Action.CANCEL: RequestCancel,
}
BATCHES: Mapping[str, type[Call]] = {
    Action.STATUS: GetStatuses,
    Action.REFILL: RequestRefills,
    Action.REFILL_STATUS: GetRefills,
    Action.CANCEL: RequestCancels,
}
_PLURALS = ("orders", "refills")


@dataclass(frozen=True)
class Transcript:
    document: str
    call: Call
    reply: Reply
    answer: Mapping[str, Any]
    sends: Mapping[str, Any] | None
    sends_headers: Mapping[str, str]


def names(dialect: str, folder: Path = FOLDER) -> list[str]:
    return sorted(path.stem for path in (folder / dialect).glob("*.txt"))


def call(asked: Mapping[str, Any]) -> Call:
    """Return the call that a transcript's ``call`` describes."""
    values = {name: value for name, value in asked.items() if name != "action"}
    batches = [name for name in _PLURALS if name in values]
    values |= {name: tuple(values[name]) for name in batches}
    return (BATCHES if batches else SINGLES)[asked["action"]](**values)


def load(dialect: str, name: str, folder: Path = FOLDER) -> Transcript:
    head, _, body = (folder / dialect / f"{name}.txt").read_bytes().partition(b"\n\n")
    given = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in head.decode().splitlines())}
    return Transcript(
        document=given["document"],
        call=call(given["call"]),
        reply=Reply(given.get("http", 200), {}, body),
        answer=given["answer"],
        sends=given.get("sends"),
        sends_headers=given.get("sends-headers", {}),
    )


def save(path: Path, given: Mapping[str, Any], body: bytes) -> None:
    """Write a new transcript: its named values and the reply's body as it came.

    Raises:
        FileExistsError: there is one of that name.
    """
    head = "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in given.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(head.encode() + b"\n" + body)


def written(answer: Answer) -> Mapping[str, Any]:
    """Write an answer as transcripts do."""
    if isinstance(answer, Items):
        return {"Items": {str(number): written(item) for number, item in answer.items.items()}}
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
