"""The journal's hash chain, and what betrays that somebody else wrote in it. Nothing here knows AWS.

A record is a text of JSON that holds its own number and the hash of the record before it; its hash is the SHA-256 of
that text. So a hash stands for all records up to its own, and whoever keeps one elsewhere (`journal.Anchor` does, for
each) can tell whether any of them was changed since.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PK = "AUDIT"
HEAD = "HEAD"
RECORD = "RECORD#"
ACT, OUTCOME = "act", "outcome"
"""The kinds of records: what is about to be done, and what became of it."""
ACCEPT = "audit accept"
"""The act by which the operator answers for a record that has no anchor."""

Anchors = Mapping[int, Sequence[str]]
"""The hashes that were kept elsewhere, by the numbers of their records; more than one only if somebody forges."""


def sort_key(number: int) -> str:
    """Return the sort key of a record; the records of a million years fit."""
    return f"{RECORD}{number:012d}"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the number and the hash of its last record."""

    number: int
    hash: str

    @classmethod
    def of_empty(cls, stage: str) -> "Head":
        """Return what a stage's first record follows: no stage's chain continues another's."""
        return cls(0, hashlib.sha256(f"panelgate {stage}".encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Record:
    """One link of the chain."""

    number: int
    text: str
    hash: str

    @classmethod
    def after(cls, head: Head, content: Mapping[str, Any]) -> "Record":
        """Return the record of a content behind the end of a chain."""
        number = head.number + 1
        text = json.dumps({"record": number, "previous": head.hash, **content}, ensure_ascii=False)
        return cls(number, text, digest(text))

    @property
    def content(self) -> dict[str, Any]:
        """What the record says.

        Raises:
            ValueError: it is no JSON.
        """
        try:
            content: dict[str, Any] = json.loads(self.text)
        except RecursionError:
            raise ValueError("too deep") from None
        return content

    @property
    def head(self) -> Head:
        """The chain's end with this record as its last."""
        return Head(self.number, self.hash)


def digest(text: str) -> str:
    """Return the hash of a record's text."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fault:
    """The record at which a chain is wrong, and how."""

    number: int
    key: str
    sentence: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{PK} {self.key}: {self.sentence}"


@dataclass
class Walk:
    """A way along a chain, record by record, up to the first that is wrong."""

    end: Head
    anchors: Anchors
    goal: Head
    """The head as it was before the first record was read: the way leads through it."""
    fault: Fault | None = None
    unanchored: list[Record] = field(default_factory=list)
    accepted: set[int] = field(default_factory=set)

    def along(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Go along the stored records, which come in the order of their keys."""
        for item in items:
            self.fault = self._step(item)
            if self.fault:
                return
        anchored = max(self.anchors, default=0)
        if anchored > self.end.number:
            self.fault = _missing(self.end.number + 1, f"records up to {anchored} were anchored")
        elif self.goal.number > self.end.number:
            self.fault = _missing(self.end.number + 1, f"the journal's head names record {self.goal.number}")

    def close(self, head: Head) -> None:
        """Compare with the head as it was after the last record was read."""
        if self.fault is None and (
            head.number < self.end.number or (head.number == self.end.number and head != self.end)
        ):
            self.fault = Fault(self.end.number, HEAD, f"it does not name the last record, {sort_key(self.end.number)}")

    def _step(self, item: Mapping[str, Any]) -> Fault | None:
        number, key = self.end.number + 1, item["sk"]
        if key != sort_key(number):
            if key > sort_key(number) and key == sort_key(number_of(key)):
                return _missing(number, f"the next one is {key}")
            return Fault(number, key, "it is no record of the journal")
        text, stored = item.get("text"), item.get("hash")
        if not isinstance(text, str) or stored != digest(text):
            return Fault(number, key, "it was edited: its text does not have its hash")
        record = Record(number, text, stored)
        sentence = self._wrong(record)
        if sentence:
            return Fault(number, key, sentence)
        self.end = record.head
        self._note(record)
        return None

    def _wrong(self, record: Record) -> str | None:
        try:
            content = record.content
            holds, previous = content["record"], content["previous"]
        except (ValueError, KeyError, TypeError):
            return "it cannot be read"
        if holds != record.number:
            return f"it holds record {holds}: they were reordered"
        if previous != self.end.hash:
            return "it does not follow the record before it"
        if record.number == self.goal.number and record.hash != self.goal.hash:
            return "it is not the record that the journal's head names"
        if any(hash_ != record.hash for hash_ in self.anchors.get(record.number, ())):
            return "it is not the record that was anchored: the journal was rewritten from here on, or forked"
        return None

    def _note(self, record: Record) -> None:
        if record.number not in self.anchors:
            self.unanchored.append(record)
            return
        content = record.content
        if content.get("act") == ACCEPT:
            unanchored = {one.number for one in self.unanchored}  # not a later one
            self.accepted |= {int(content["arguments"]["record"])} & unanchored

    def open(self, last: int) -> list[Record]:
        """Return the records up to the last one that have no anchor, and for which nobody answers."""
        return [one for one in self.unanchored if one.number <= last and one.number not in self.accepted]


def unanchored(record: Record) -> Fault:
    """Return what is wrong with a record that has no anchor and will get none."""
    is_outcome = record.content.get("kind") == OUTCOME
    sentence = (
        "it has no anchor: a run ended before it had written one, and"
        f" {'had ended as the record says' if is_outcome else 'did nothing'}, or somebody else wrote the record."
        f" If you know it, `panelgate {ACCEPT} {record.number}` answers for it"
    )
    return Fault(record.number, sort_key(record.number), sentence)


def number_of(key: str) -> int:
    """Return the number of the record under a sort key; 0 for what is no record."""
    digits = key.removeprefix(RECORD)
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _missing(number: int, reason: str) -> Fault:
    return Fault(number, sort_key(number), f"it is missing: {reason}")
