"""The table's primitives: conditional, retried in one layer, exact.

botocore's own retries are off (see ``wiring``): they would apply a plain ``ADD`` twice after a lost reply and do not
retry a cancelled transaction (reliability.md 4.5). Here every write carries a condition or a token that makes a
repetition harmless, so that it may be repeated until its deadline.
"""

import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.clock import SECOND, Clock
from chalicelib.errors import PanelgateError, StoreBusy

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
T = TypeVar("T")

# What an ordinary call may take before its caller is told that the store is busy, in µs.
PATIENCE = 3_000_000
_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.6
_BATCH_GET = 100
_BATCH_WRITE = 25
# Answers after which the same call may succeed. Codes, not exception classes: a client's `exceptions.X` belong to
# that client object alone (reliability.md 4.5).
_BUSY = frozenset(
    {
        "InternalServerError",
        "InternalFailure",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_SERIALIZER = TypeSerializer()
_DESERIALIZER = TypeDeserializer()


class ConditionFailed(PanelgateError):
    """A conditional write did not apply; ``old`` is the item as it stands (None: there is none)."""

    def __init__(self, old: Item | None) -> None:
        """Keep the item that the condition met."""
        super().__init__("condition failed")
        self.old = old


class TransactionRefused(PanelgateError):
    """A transaction did not apply; ``failed`` maps the positions of failed conditions to the items there."""

    def __init__(self, failed: Mapping[int, Item | None]) -> None:
        """Keep the items that the conditions met."""
        super().__init__("transaction refused")
        self.failed = failed


@dataclass(frozen=True, slots=True)
class Write:
    """One write: a whole item to put, an update expression, or a deletion, each with its condition."""

    pk: str
    sk: str
    put: Mapping[str, Any] | None = None
    update: str | None = None
    condition: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def encode(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item in DynamoDB's typed JSON, without the attributes that are None."""
    return {name: _SERIALIZER.serialize(value) for name, value in item.items() if value is not None}


def decode(item: Mapping[str, Any]) -> Item:
    """Return an item from DynamoDB's typed JSON; numbers are ints, for we store no others."""
    return {name: _plain(_DESERIALIZER.deserialize(value)) for name, value in item.items()}


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return int(value)
        case Binary():
            return bytes(value.value)  # type: ignore[attr-defined] # boto3's stubs leave it out
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Table:
    """One table. Times in epoch µs; every method raises ``StoreBusy`` when ``until`` passes without a decision.

    ``kept``: what is put goes again after so many seconds, or soon after; None for what stays.
    """

    client: "DynamoDBClient"
    name: str
    clock: Clock
    kept: int | None = None

    def get(self, pk: str, sk: str) -> Item | None:
        """Return one item, read consistently."""
        reply = self._call(self.client.get_item, Key=_key(pk, sk), ConsistentRead=True, TableName=self.name)
        return decode(reply["Item"]) if "Item" in reply else None

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item]:
        """Return those of the items that exist, read consistently, in no order."""
        found: list[Item] = []
        end = self.clock.now() + PATIENCE
        for start in range(0, len(keys), _BATCH_GET):
            wanted: Any = [_key(pk, sk) for pk, sk in keys[start : start + _BATCH_GET]]
            while wanted:
                request = {self.name: {"Keys": wanted, "ConsistentRead": True}}
                reply: Any = self._call(self.client.batch_get_item, RequestItems=request)
                found += [decode(item) for item in reply["Responses"].get(self.name, [])]
                wanted = reply.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
                end = self._next_batch(wanted, len(reply["Responses"].get(self.name, [])), end)
        return found

    def query(
        self, pk: str, prefix: str = "", *, newest: bool = False, last: str | None = None, page: int | None = None
    ) -> Iterator[Item]:
        """Yield the items under ``pk`` whose sort key begins with ``prefix``, in its order, read consistently.

        ``newest``: in the opposite order; ``last``: none beyond this sort key; ``page``: so many are read at once.
        """
        condition, values = "pk = :pk", {":pk": pk}
        if last is not None:
            condition, values = (
                "pk = :pk AND sk BETWEEN :prefix AND :last",
                {":pk": pk, ":prefix": prefix, ":last": last},
            )
        elif prefix:
            condition, values = "pk = :pk AND begins_with(sk, :prefix)", {":pk": pk, ":prefix": prefix}
        yield from self._pages(
            KeyConditionExpression=condition,
            ExpressionAttributeValues=encode(values),
            ConsistentRead=True,
            ScanIndexForward=not newest,
            **({} if page is None else {"Limit": page}),
        )

    def query_index(  # noqa: PLR0913 - a query is made of these
        self,
        index: str,
        condition: str,
        values: Mapping[str, Any],
        *,
        names: Mapping[str, str] | None = None,
        newest: bool = False,
        start: Mapping[str, Any] | None = None,
    ) -> Iterator[Item]:
        """Yield the items of an index, which may lag behind: no decision may rest on them.

        ``start`` is the key of the item after which to begin.
        """
        yield from self._pages(
            IndexName=index,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=encode(values),
            ScanIndexForward=not newest,
            **({"ExpressionAttributeNames": dict(names)} if names else {}),
            **({"ExclusiveStartKey": encode(start)} if start else {}),
        )

    def _pages(self, **request: Any) -> Iterator[Item]:  # noqa: ANN401 - botocore's parameters
        while True:
            reply: Any = self._call(self.client.query, TableName=self.name, **request)
            yield from (decode(item) for item in reply["Items"])
            if "LastEvaluatedKey" not in reply:
                return
            request["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def write(self, write: Write, *, until: int | None = None) -> Item:
        """Apply one write and return the item as it is then (empty for a deletion).

        Raises:
            ConditionFailed: its condition did not hold.
        """
        parts = {"TableName": self.name, **_parts(self._passing(write))}
        if write.update is not None:
            reply = self._call(self.client.update_item, until, ReturnValues="ALL_NEW", **parts)
            return decode(reply["Attributes"])
        if write.put is not None:
            self._call(self.client.put_item, until, **parts)
            return dict(write.put)
        self._call(self.client.delete_item, until, **parts)
        return {}

    def transact(self, writes: Sequence[Write], *, until: int | None = None) -> None:
        """Apply all writes or none, once: all tries of one call share a token (valid for ten minutes at AWS).

        Args:
            writes: at most 100, on different items, of which at least one has a condition that it breaks itself,
                so that a later call of the same meaning does not apply again.
            until: when to give up, in epoch µs.

        Raises:
            TransactionRefused: a condition did not hold; nothing was applied by this call.
        """
        items = [{_kind(write): {"TableName": self.name, **_parts(self._passing(write))}} for write in writes]
        token = secrets.token_hex(16)
        self._call(self.client.transact_write_items, until, TransactItems=items, ClientRequestToken=token)

    def _passing(self, write: Write) -> Write:
        if self.kept is None or write.put is None:
            return write
        return replace(write, put={**write.put, "ttl": self.clock.now() // SECOND + self.kept})

    def put_many(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Put items without conditions: only for what may be written twice."""
        self._batch([{"PutRequest": {"Item": encode(item)}} for item in items])

    def delete_many(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete items without conditions."""
        self._batch([{"DeleteRequest": {"Key": _key(pk, sk)}} for pk, sk in keys])

    def _batch(self, requests: Sequence[Any]) -> None:
        end = self.clock.now() + PATIENCE
        for start in range(0, len(requests), _BATCH_WRITE):
            left: Any = list(requests[start : start + _BATCH_WRITE])
            while left:
                reply: Any = self._call(self.client.batch_write_item, RequestItems={self.name: left})
                done, left = len(left), reply.get("UnprocessedItems", {}).get(self.name, [])
                end = self._next_batch(left, done - len(left), end)

    def _next_batch(self, left: Sequence[Any], done: int, end: int) -> int:
        """Wait before what a batch left undone is asked for again, and return until when it may be."""
        now = self.clock.now()
        if not left or done:
            return now + PATIENCE
        if now >= end:
            raise StoreBusy("a batch was left undone")
        self.clock.sleep(random.uniform(_LONGEST_WAIT / 4, _LONGEST_WAIT))  # noqa: S311 - jitter
        return end

    def _call(self, operation: Callable[..., T], until: int | None = None, **request: Any) -> T:  # noqa: ANN401
        end = self.clock.now() + PATIENCE if until is None else until
        wait = _FIRST_WAIT
        while True:
            try:
                return operation(**request)
            except (ClientError, BotoCoreError) as error:
                cause = _busy(error)
            pause = random.uniform(wait / 2, wait)  # noqa: S311 - jitter
            if self.clock.now() + pause * SECOND >= end:
                raise StoreBusy(cause)
            self.clock.sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT)


def _busy(error: ClientError | BotoCoreError) -> str:
    """Return why the store could not answer, or raise what it did answer."""
    if isinstance(error, BotoCoreError):
        return type(error).__name__  # no connection, no reply, a broken reply: the token or condition guards us
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        item: Any = error.response.get("Item")
        raise ConditionFailed(decode(item) if item else None) from None
    if code == "TransactionCanceledException":
        reasons: list[Any] = error.response.get("CancellationReasons", [])
        failed = {
            position: decode(reason["Item"]) if reason.get("Item") else None
            for position, reason in enumerate(reasons)
            if reason.get("Code") == "ConditionalCheckFailed"
        }
        codes = {reason.get("Code", "None") for reason in reasons} - {"None", "ConditionalCheckFailed"}
        if failed and not codes:
            raise TransactionRefused(failed) from None
        # Beside a conflict a failed condition is half an answer: what is in conflict may stand against us as well,
        # and which conditions fail decides what a caller is told.
        if codes <= _BUSY | {"ProvisionedThroughputExceeded"}:
            return "transaction conflict"
        raise error
    if code in _BUSY or error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500:  # noqa: PLR2004
        return code
    raise error


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _kind(write: Write) -> str:
    if write.put is not None:
        return "Put"
    return "Delete" if write.update is None else "Update"


def _parts(write: Write) -> dict[str, Any]:
    if write.put is not None:
        parts: dict[str, Any] = {"Item": encode({"pk": write.pk, "sk": write.sk, **write.put})}
    else:
        parts = {"Key": _key(write.pk, write.sk)}
    if write.update is not None:
        parts["UpdateExpression"] = write.update
    if write.condition is not None:
        parts["ConditionExpression"] = write.condition
        parts["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    if write.names:
        parts["ExpressionAttributeNames"] = dict(write.names)
    if write.values:
        parts["ExpressionAttributeValues"] = encode(write.values)
    return parts
