"""What became of each version of a provider key: its rotation, step by step, and whether its panel rejects it.

The values are in Secrets Manager and nowhere else; here is who changed them, when, and what proved them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from chalicelib.aws.accounts import account_name, change
from chalicelib.aws.table import Item, Table, TransactionRefused, Write
from chalicelib.clock import DAY, MINUTE, SECOND
from chalicelib.errors import PanelgateError
from chalicelib.model import Account

# A note of a rejection is for the rotation that runs, and for the operator who looks the next day.
_NOTE_KEPT = 7 * DAY
# Containers learn of a new key within 60 s (`vault`). The clock of the operator, who records the change, may be five
# minutes off from theirs, which is what AWS takes a signature with; and theirs a little from one another.
_KNOWN_AFTER = 10 * MINUTE
_UNFINISHED = "UNFINISHED"


class Step(StrEnum):
    """How far a version of a key has come."""

    PENDING = "pending"
    """Stored beside the current one, not in use."""
    PROVED = "proved"
    """Its panel accepts it; it may be used where the current one is rejected."""
    PROMOTED = "promoted"
    """In use, and watched."""
    DONE = "done"
    """In use, and has shown itself good."""
    FAILED = "failed"
    """It did not prove itself, or was given up before it was used."""
    ROLLING_BACK = "rolling_back"
    """The one before it is being taken again."""
    ROLLED_BACK = "rolled_back"
    """It was in use, and the one before it is again."""


# Which step may come after which; conditions of the store, so that of two commands at once one goes on.
STEPS: Mapping[Step, frozenset[Step]] = MappingProxyType(
    {
        Step.PENDING: frozenset({Step.PROVED, Step.FAILED}),
        Step.PROVED: frozenset({Step.PROMOTED, Step.FAILED}),
        Step.PROMOTED: frozenset({Step.DONE, Step.ROLLING_BACK}),
        Step.DONE: frozenset({Step.ROLLING_BACK}),
        Step.ROLLING_BACK: frozenset({Step.ROLLED_BACK}),
        Step.FAILED: frozenset(),
        Step.ROLLED_BACK: frozenset(),
    }
)
ENDS = frozenset({Step.DONE, Step.FAILED, Step.ROLLED_BACK})
# The panel, or an operator, is done with these: they are never fallen back on.
_RETIRED = frozenset({Step.FAILED, Step.ROLLING_BACK, Step.ROLLED_BACK})


# After these another key comes into use, and after those it has.
_CHANGING = frozenset({Step.PROVED, Step.ROLLING_BACK})
_CHANGED = frozenset({Step.PROMOTED, Step.FAILED, Step.ROLLED_BACK})


class Moved(PanelgateError):
    """Another command has taken this rotation a step further, or runs another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One version of a key.

    Attributes:
        account: whose key, at which provider.
        version: its id in Secrets Manager.
        step: how far it has come.
        before: the version that was in use when it began; None: there was none.
        other_account: it opens another account of the provider than the one before it.
        promoted: when it came into use, in epoch µs; None: not yet.
        events: what happened, oldest first: ``at`` (epoch µs), ``step``, ``by``, and what proved or caused it.
    """

    account: Account
    version: str
    step: Step = Step.PENDING
    before: str | None = None
    other_account: bool = False
    promoted: int | None = None
    events: tuple[Mapping[str, Any], ...] = field(default=())


class Rotations:
    """The versions in the table."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    def get(self, account: Account, version: str) -> Rotation | None:
        """Return what is recorded of a version; None: it was never rotated to."""
        item = self._table.get(_pk(account), f"VERSION#{version}")
        return None if item is None else _rotation(account, item)

    def may_stand_in(self, account: Account, pending: str) -> bool:
        """Say whether a version that is not in use yet may be used where the current one is rejected."""
        found = self.get(account, pending)
        return found is not None and found.step is Step.PROVED and not found.other_account

    def may_be_used_again(self, account: Account, previous: str, *, instead_of: str) -> bool:
        """Say whether the version before the current one may be used where that is rejected."""
        current = self.get(account, instead_of)
        if current is not None and (current.other_account or current.before != previous):
            return False  # it opens another account, or that is not known: a removed provider may have had another one
        found = self.get(account, previous)
        return found is None or found.step not in _RETIRED

    def note_rejection(self, account: Account, version: str, *, until: int) -> None:
        """Note that the panel rejects a version of a key."""
        now = self._table.clock.now()
        self._table.write(
            Write(
                _pk(account),
                f"REJECTED#{version}",
                update="SET #at = :at, #ttl = :ttl",
                names={"#at": "at", "#ttl": "ttl"},
                values={":at": now, ":ttl": (now + _NOTE_KEPT) // SECOND},
            ),
            until=until,
        )

    def rejected(self, account: Account, version: str) -> int | None:
        """Return when the panel was last noted to reject a version, in epoch µs; None: never."""
        item = self._table.get(_pk(account), f"REJECTED#{version}")
        return None if item is None else int(item["at"])

    # -- the operator's side ---------------------------------------------------------------------------------------

    def unfinished(self, account: Account) -> Rotation | None:
        """Return the rotation of an account that has not come to an end."""
        item = self._table.get(_pk(account), _UNFINISHED)
        return None if item is None else self.get(account, item["version"])

    def history(self, account: Account) -> Iterator[Rotation]:
        """Yield all versions of an account's key that were ever rotated to, in no order."""
        for item in self._table.query(_pk(account), "VERSION#"):
            yield _rotation(account, item)

    def begin(self, new: Rotation, **facts: Any) -> Rotation:  # noqa: ANN401 - what an event tells
        """Record a rotation before anything of it is done; one at a time for an account.

        Raises:
            Moved: another one is not finished, or this version has been used.
        """
        event = self._event(new.step, facts)
        item = {
            "version": new.version,
            "step": new.step,
            "before": new.before,
            "other_account": new.other_account,
            "promoted": new.promoted,
            "events": [event],
        }
        pk = _pk(new.account)
        writes = [Write(pk, f"VERSION#{new.version}", put=item, condition="attribute_not_exists(pk)")]
        if new.step not in ENDS:
            put = {"version": new.version}
            writes.append(Write(pk, _UNFINISHED, put=put, condition="attribute_not_exists(pk)"))
        self._transact(writes)
        return _rotation(new.account, item)

    def advance(self, rotation: Rotation, step: Step, **facts: Any) -> Rotation:  # noqa: ANN401 - what an event tells
        """Record that a rotation has come a step further, and return it.

        Raises:
            Moved: it was no longer at the step that is known.
        """
        assert step in STEPS[rotation.step], (rotation.step, step)  # noqa: S101 - the table of the steps
        pk, event = _pk(rotation.account), self._event(step, facts)
        promoted = event["at"] if step is Step.PROMOTED else None
        values = {":step": step, ":before": rotation.step, ":promoted": promoted, ":event": [event]}
        writes = [
            Write(
                pk,
                f"VERSION#{rotation.version}",
                update="SET #step = :step, events = list_append(events, :event)"
                + (", promoted = :promoted" if promoted is not None else ""),
                condition="#step = :before",
                names={"#step": "step"},
                values=values,
            )
        ]
        mine = {":version": rotation.version}
        if step in ENDS:
            writes.append(Write(pk, _UNFINISHED, condition="version = :version", values=mine))
        elif rotation.step in ENDS:
            put = {"version": rotation.version}
            writes.append(Write(pk, _UNFINISHED, put=put, condition="attribute_not_exists(pk)"))
        if rotation.other_account and step in _CHANGING | _CHANGED:
            writes.append(change(rotation.account, event["at"] + _KNOWN_AFTER if step in _CHANGED else None))
        self._transact(writes)
        return replace(
            rotation,
            step=step,
            promoted=rotation.promoted if promoted is None else promoted,
            events=(*rotation.events, event),
        )

    def abandon(self, account: Account, **facts: Any) -> None:  # noqa: ANN401 - what an event tells
        """End an account's rotation where it stands, if one has not come to an end: the account is given up.

        Whoever adds its provider again may have another one there.

        Raises:
            Moved: it went on meanwhile.
        """
        rotation = self.unfinished(account)
        if rotation is not None:
            [end] = STEPS[rotation.step] & ENDS
            self.advance(rotation, end, **facts)
        self.set_marks_aside(account)

    def set_marks_aside(self, account: Account) -> None:
        """Have the marks of an account whose key is about to open another one compared with none that come later."""
        self._table.write(change(account, self._table.clock.now() + _KNOWN_AFTER))

    def _event(self, step: Step, facts: Mapping[str, Any]) -> Item:
        return {"at": self._table.clock.now(), "step": step, **facts}

    def _transact(self, writes: list[Write]) -> None:
        try:
            self._table.transact(writes)
        except TransactionRefused:
            raise Moved("another command is at work on this key") from None


def _pk(account: Account) -> str:
    return f"KEYS#{account_name(account)}"


def _rotation(account: Account, item: Item) -> Rotation:
    return Rotation(
        account=account,
        version=item["version"],
        step=Step(item["step"]),
        before=item.get("before"),
        other_account=bool(item.get("other_account")),
        promoted=item.get("promoted"),
        events=tuple(item["events"]),
    )
