"""Where the operator's acts are recorded: a hash chain in the table, and an anchor of each record outside of it.

A record is written in one transaction with the chain's head, on condition that the head is still the one that it
follows: acts of several operators at once become one chain. Then its hash goes to a log group, whose entries AWS lets
nobody change. Whoever can write the table and not delete that log group's stream cannot rewrite what has happened.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.aws.table import Table, TransactionRefused, Write
from chalicelib.clock import SECOND
from chalicelib.errors import PanelgateError
from cli.chain import (
    HEAD,
    PK,
    RECORD,
    Anchors,
    Head,
    Record,
    Walk,
    digest,
    no_anchors,
    number_of,
    sort_key,
    unanchored,
)

if TYPE_CHECKING:
    from types_boto3_logs import CloudWatchLogsClient

STREAM = "chain"
# How long an act waits for its turn behind those of other operators, in µs.
TURN_TIME = 20 * SECOND
_LONGEST_WAIT = 0.2
# Seconds between readings of what a run that is under way may explain; CloudWatch shows an entry after some seconds.
_PAUSES = (0.5, 1, 2, 4, 8)
NO_SUCH = "ResourceNotFoundException"
EXISTS = "ResourceAlreadyExistsException"


class NotRecorded(PanelgateError):
    """A record was not written, so what it announces must not be done."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The hashes of the records, in a log group that has nothing else in it and never forgets."""

    client: "CloudWatchLogsClient"
    group: str
    page: int = 10_000

    def prepare(self) -> None:
        """Make sure that there is where to write, before anything is recorded.

        Raises:
            ClientError: the log group does not exist, or is not ours to write.
        """
        try:
            self.client.create_log_stream(logGroupName=self.group, logStreamName=STREAM)
        except ClientError as error:
            if error.response["Error"]["Code"] != EXISTS:
                raise

    def write(self, record: Record, at: int) -> None:
        """Keep a record's hash. It may be written twice.

        Args:
            record: what was stored.
            at: now, in epoch µs.

        Raises:
            NotRecorded: CloudWatch took it and did not keep it.
        """
        message = json.dumps({"record": record.number, "hash": record.hash})
        reply = self.client.put_log_events(
            logGroupName=self.group,
            logStreamName=STREAM,
            logEvents=[{"timestamp": at // 1000, "message": message}],
        )
        if reply.get("rejectedLogEventsInfo"):
            raise NotRecorded("CloudWatch rejected the record's anchor: is this machine's clock right?")

    def messages(self) -> Iterator[str]:
        """Yield all entries; none if there is no log group."""
        request: Any = {"logGroupName": self.group, "logStreamName": STREAM, "startFromHead": True, "limit": self.page}
        while True:
            try:
                reply = self.client.get_log_events(**request)
            except ClientError as error:
                if error.response["Error"]["Code"] != NO_SUCH:
                    raise
                return
            yield from (event["message"] for event in reply["events"])
            # A page may be empty and not the last; the last one is told by its token.
            if reply["nextForwardToken"] == request.get("nextToken"):
                return
            request["nextToken"] = reply["nextForwardToken"]


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one stage."""

    table: Table
    anchor: Anchor
    stage: str

    def append(self, content: Mapping[str, Any]) -> Record:
        """Record something behind all that was recorded before, and anchor it.

        Args:
            content: JSON; never a secret.

        Raises:
            NotRecorded: the journal does not take it.
            StoreBusy: the table does not answer.
            ClientError: AWS refuses.
        """
        self.anchor.prepare()
        record = self._append(content)
        self.anchor.write(record, self.table.clock.now())
        return record

    def _append(self, content: Mapping[str, Any]) -> Record:
        end = self.table.clock.now() + TURN_TIME
        head = self.head()
        while True:
            record = Record.after(head, content)
            if self._is_stored(record, head):
                return record
            before, head = head, self.head()
            if head == before:
                raise NotRecorded("the journal is damaged: `panelgate audit verify` says where")
            if self.table.clock.now() > end:
                raise NotRecorded("too many others record acts at the same time")
            self.table.clock.sleep(random.uniform(0, _LONGEST_WAIT))  # noqa: S311 - jitter

    def _is_stored(self, record: Record, head: Head) -> bool:
        """Whether a record became the one after a head; if not, another one did."""
        follows = {"condition": "#hash = :previous", "values": {":previous": head.hash}, "names": {"#hash": "hash"}}
        first = {"condition": "attribute_not_exists(pk)"}
        moved: Any = first if head.number == 0 else follows
        item = {"text": record.text, "hash": record.hash}
        writes = [
            Write(PK, HEAD, put={"number": record.number, "hash": record.hash}, **moved),
            Write(PK, sort_key(record.number), put=item, condition="attribute_not_exists(pk)"),
        ]
        try:
            self.table.transact(writes)
        except TransactionRefused:
            stored = self.table.get(PK, sort_key(record.number))  # ours, if the reply to an earlier try was lost
            return stored is not None and stored["hash"] == record.hash
        return True

    def head(self) -> Head:
        """Return the end of the chain."""
        item = self.table.get(PK, HEAD)
        return Head.of_empty(self.stage) if item is None else Head(item.get("number", 0), item.get("hash", ""))

    def records(self) -> Iterator[Record]:
        """Yield all records, oldest first, as they are stored, right or wrong."""
        for item in self.table.query(PK, RECORD):
            yield Record(number_of(item["sk"]), str(item.get("text")), str(item.get("hash")))

    def anchors(self) -> Anchors:
        """Return the anchored hashes by the records' numbers; 0 has the hashes of what cannot be read."""
        found: dict[int, list[str]] = {}
        for message in self.anchor.messages():
            number, hash_ = _anchored(message)
            if hash_ not in found.setdefault(number, []):
                found[number].append(hash_)
        return found

    def verify(self) -> Walk:
        """Return the way along the whole chain, with what is wrong there.

        That is the first record without an anchor for which nobody answers, and the fault at which the way ends. A
        record may be read before its anchor can be: so those without one are looked at again, for some seconds.
        """
        walk = self.walk()
        last = walk.end.number
        for pause in _PAUSES:
            if not walk.open(last) and not walk.is_early:
                break
            self.table.clock.sleep(pause)
            walk = self.walk()
        walk.faults[:0] = map(unanchored, walk.open(last)[:1])
        return walk

    def walk(self) -> Walk:
        """Return the way along the chain as it can be read now."""
        # In this order, so that each record that is anchored by now, or that the head names, is among those read.
        anchors = self.anchors()
        walk = Walk(Head.of_empty(self.stage), anchors, self.head())
        walk.along(list(self.table.query(PK, RECORD)))
        walk.close(self.head())
        if not walk.faults and 0 in walk.anchors:
            walk.faults.append(no_anchors(self.anchor.group))
        return walk


def _anchored(message: str) -> tuple[int, str]:
    try:
        entry = json.loads(message)
        return max(0, int(entry["record"])), str(entry["hash"])
    except (ValueError, KeyError, TypeError):
        return 0, digest(message)
