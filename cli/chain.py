"""The journal's hash chain, and what betrays that somebody else wrote in it. Nothing here knows AWS.

A record is a text of JSON that holds its own number and the hash of the record before it; its hash is the SHA-256 of
that text. So a hash stands for all records up to its own, and whoever keeps one elsewhere (`journal.Anchor` does, for
each) can tell whether any of them was changed since.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PK = "AUDIT"
HEAD = "HEAD"
RECORD = "RECORD#"
ACT, OUTCOME = "act", "outcome"
"""The kinds of records: what is about to be done, and what became of it."""
ACCEPT = "audit accept"
"""The act by which the operator answers for a record without an anchor, or for anchors without a record."""
MAX_ORPHANS = 1000
"""For so many anchors one such act can answer: its record holds their hashes."""

Anchors = Mapping[int, Sequence[str]]
"""The hashes that were kept elsewhere, by the numbers of their records; 0 has entries that are no anchors. A number has
more than one only if the table was restored to an earlier time, or if somebody forges."""


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
        """Return the record of a content behind the end of a chain; no two are the same."""
        number = head.number + 1
        own = {"record": number, "previous": head.hash, "nonce": secrets.token_hex(8)}
        text = json.dumps({**own, **content}, ensure_ascii=False)
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
    """Those that count: no orphans, once these are known."""
    goal: Head
    """The head as it was before the first record was read: the way leads through it."""
    faults: list[Fault] = field(default_factory=list)
    unanchored: list[Record] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)
    """The records for which somebody answers."""
    orphaned: list[int] = field(default_factory=list)
    """The records of which there are anchors that do not count, for somebody answers for them."""
    is_early: bool = False
    """An answer has no anchor yet, and nobody answers for it either."""

    def along(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Go along the stored records, which come in the order of their keys."""
        self._believe(items)
        for item in items:
            fault = self._step(item)
            if fault:
                self.faults.append(fault)
                return
        number, anchored = self.end.number + 1, max(self.anchors, default=0)
        if anchored >= number:
            reason = f"records up to {anchored} were anchored.{_answer(number, 'the table was restored')}"
            self.faults.append(_missing(number, reason))
        elif self.goal.number >= number:
            self.faults.append(_missing(number, f"the journal's head names record {self.goal.number}"))

    def close(self, head: Head) -> None:
        """Compare with the head as it was after the last record was read."""
        last = self.end
        if not self.faults and (head.number < last.number or (head.number == last.number and head != last)):
            self.faults.append(Fault(last.number, HEAD, f"it does not name the last record, {sort_key(last.number)}"))

    def _believe(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Note who answers for what. An answer is believed by its own anchor, so it holds though others are wrong."""
        orphans, early = set[str](), set[int]()
        for item in items:
            record = Record(number_of(item["sk"]), str(item.get("text")), "")
            answer = _answer_in(record)
            if answer is None:
                continue
            if digest(record.text) not in self.anchors.get(record.number, ()):
                early.add(record.number)
                continue
            number, its_orphans = answer
            orphans |= its_orphans
            if number < record.number:  # nobody answers for what is yet to come
                self.answered.add(number)
        self.is_early = not early <= self.answered
        known = self.anchors
        self.orphaned = sorted(number for number, hashes in known.items() if orphans.intersection(hashes))
        counting = {number: [one for one in hashes if one not in orphans] for number, hashes in known.items()}
        self.anchors = {number: hashes for number, hashes in counting.items() if hashes}

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
        if record.number not in self.anchors:
            self.unanchored.append(record)
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
            answer = _answer(record.number, "the table was restored")
            return f"it is not the record that was anchored: the journal was rewritten from here on, or forked.{answer}"
        return None

    def accepted(self) -> list[int]:
        """Return the records without an anchor for which somebody answers."""
        return [one.number for one in self.unanchored if one.number in self.answered]

    def open(self, last: int) -> list[Record]:
        """Return the records up to the last one that have no anchor, and for which nobody answers."""
        return [one for one in self.unanchored if one.number <= last and one.number not in self.answered]


def _answer_in(record: Record) -> tuple[int, set[str]] | None:
    """Return for which record the outcome of `ACCEPT` answers, and which anchors it calls orphans; None of others."""
    try:
        facts = record.content["facts"]
        return int(facts["accepted"]), set(map(str, facts["orphans"]))
    except (ValueError, KeyError, TypeError):  # it tells of something else, or is none of ours
        return None


def orphans(number: int, stored: Mapping[int, str], anchors: Anchors) -> list[str]:
    """Return the anchors from a number on, up to the first without any, that are of no stored record.

    They are what is left of records that were lost when the table was restored to an earlier time. A record that was
    taken out between others makes none: that is no restoration.

    Args:
        number: the first record that they are of.
        stored: the hashes of the stored records, by their numbers.
        anchors: those that count, read before ``stored``.
    """
    found: list[str] = []
    last = max(stored, default=0)
    while len(found) < MAX_ORPHANS and (number in stored or not 0 < number < last):
        others = [one for one in anchors.get(number, ()) if one != stored.get(number)]
        if not others:
            break
        found += others
        number += 1
    return found


def unanchored(record: Record) -> Fault:
    """Return what is wrong with a record that has no anchor and will get none."""
    is_outcome = record.content.get("kind") == OUTCOME
    sentence = (
        "it has no anchor: a run ended before it had written one, and"
        f" {'had ended as the record says' if is_outcome else 'did nothing'}, or somebody else wrote the record."
        f"{_answer(record.number, 'you know it')}"
    )
    return Fault(record.number, sort_key(record.number), sentence)


def no_anchors(group: str) -> Fault:
    """Return what is wrong with a log group that has other entries."""
    return Fault(0, HEAD, f"the log group {group} has an entry that is no anchor of ours.{_answer(0, 'you know it')}")


def _answer(number: int, condition: str) -> str:
    return f" If {condition}, `panelgate {ACCEPT} {number}` answers for it"


def number_of(key: str) -> int:
    """Return the number of the record under a sort key; 0 for what is no record."""
    digits = key.removeprefix(RECORD)
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _missing(number: int, reason: str) -> Fault:
    return Fault(number, sort_key(number), f"it is missing: {reason}")
