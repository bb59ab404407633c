"""The same question about many orders: one call a batch where the panel takes lists, else one call each.

Calls to one panel go one after the other where it has a pace, for a read must not reserve slots ahead that a spend may
need; elsewhere a few go side by side. Panels are asked side by side. All are done when this returns: nothing is left
to run after the answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from chalicelib.actions import (
    Action,
    Answer,
    BatchCall,
    GetRefill,
    GetRefills,
    GetStatus,
    GetStatuses,
    Item,
    Items,
    Reason,
    Refused,
    RequestCancel,
    RequestCancels,
    RequestRefill,
    RequestRefills,
    SingleCall,
)
from chalicelib.calling import RETRY_AFTER, Caller, Window, dialect_of
from chalicelib.clock import SECOND
from chalicelib.errors import PanelgateError, SendFailure, StoreBusy, Unavailable, UnreadableReply
from chalicelib.model import Account, Provider
from chalicelib.ports import Providers

Given = TypeVar("Given")
Got = TypeVar("Got")
Outcome = Item | PanelgateError

_SIDE_BY_SIDE = 8
# A read waits this long for a free slot of the provider's pace: spends come first (contract 8.7).
READ_PATIENCE = 2 * SECOND
# A read asks this long before it falls back on what it last knew.
READ_TIME = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to ask: each call waits ``slot`` µs for its slot, and all are over at ``end`` (epoch µs)."""

    slot: int
    end: int

    def window(self, now: int) -> Window:
        """Return when a call may run that is made now."""
        return Window(slot_by=min(now + self.slot, self.end), send_by=self.end, deadline=self.end)


def reading_patience(now: int, latest: int) -> Patience:
    """Return how long a read that begins now may ask, and not after ``latest``."""
    return Patience(READ_PATIENCE, min(now + READ_TIME, latest))


@dataclass(frozen=True, slots=True)
class _Form:
    single: Callable[[int], SingleCall]
    batch: Callable[[tuple[int, ...]], BatchCall]


_FORMS: Mapping[Action, _Form] = MappingProxyType(
    {
        Action.STATUS: _Form(GetStatus, GetStatuses),
        Action.REFILL: _Form(RequestRefill, RequestRefills),
        Action.REFILL_STATUS: _Form(GetRefill, GetRefills),
        Action.CANCEL: _Form(RequestCancel, RequestCancels),
    }
)


def side_by_side(work: Callable[[Given], Got], things: Iterable[Given], *, most: int = _SIDE_BY_SIDE) -> list[Got]:
    """Return what ``work`` makes of each thing, in their order; threads do it, and none outlives the call."""
    listed = list(things)
    if len(listed) < 2 or most < 2:  # noqa: PLR2004 - one needs no thread
        return [work(thing) for thing in listed]
    with ThreadPoolExecutor(min(most, len(listed))) as pool:
        # The request's id, for the log, lives in the context.
        waiting = [pool.submit(copy_context().run, work, thing) for thing in listed]
        return [future.result() for future in waiting]


def ids_at_once(provider: Provider, action: Action) -> int:
    """Return about how many ids one call to a provider can be: 1 where each takes a call.

    Raises:
        Unavailable: this version does not know its dialect.
    """
    return provider.batch if action in dialect_of(provider).capabilities.batches else 1


@dataclass(frozen=True, slots=True)
class Batcher:
    """Asks panels about many orders; everything it needs is handed in."""

    caller: Caller
    directory: Providers

    def ask_all(
        self, action: Action, numbers: Mapping[int, tuple[Account, int]], patience: Patience
    ) -> Mapping[int, Outcome]:
        """Ask each provider for its part, side by side, each order with the key of the account that bought it.

        Args:
            action: what to ask.
            numbers: by our id, the account and the provider's id.
            patience: how long.

        Returns:
            By our id, what was answered, or why there is no answer.
        """
        parts: dict[str, dict[Account, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
        for ours, (account, theirs) in numbers.items():
            parts[account.provider][account][ours] = theirs

        def ask(accounts: Mapping[Account, Mapping[int, int]]) -> Mapping[int, Outcome]:
            found: dict[int, Outcome] = {}
            for account, part in accounts.items():
                # A panel may have given one refill to two requests.
                answers = self.ask(account, action, list(dict.fromkeys(part.values())), patience)
                found |= {ours: answers[theirs] for ours, theirs in part.items()}
            return found

        found: dict[int, Outcome] = {}
        for answers in side_by_side(ask, parts.values()):
            found.update(answers)
        return {ours: found[ours] for ours in numbers}

    def ask(self, account: Account, action: Action, ids: Sequence[int], patience: Patience) -> Mapping[int, Outcome]:
        """Return what a provider answers an account for each of its ids, or why there is no answer."""
        configured = self.directory.providers().get(account.provider)
        if configured is None or not configured.enabled:
            return dict.fromkeys(ids, Unavailable("the provider is removed or disabled", retry_after=60))
        provider = configured.called_by(account.tenant)
        try:
            most = ids_at_once(provider, action)
        except Unavailable as error:
            return dict.fromkeys(ids, error)
        form = _FORMS[action]
        if len(ids) == 1 or most == 1:
            return self._one_by_one(provider, form, ids, patience)
        pieces = [ids[start : start + most] for start in range(0, len(ids), most)]
        answers = self._calls(provider, [form.batch(tuple(piece)) for piece in pieces], patience)
        found: dict[int, Outcome] = {}
        for piece, answer in zip(pieces, answers, strict=True):
            found.update(_spread(piece, answer))
        return found

    def _one_by_one(
        self, provider: Provider, form: _Form, ids: Sequence[int], patience: Patience
    ) -> Mapping[int, Outcome]:
        answers = self._calls(provider, [form.single(number) for number in ids], patience)
        return {number: _single(answer) for number, answer in zip(ids, answers, strict=True)}

    def _calls(
        self, provider: Provider, calls: Sequence[SingleCall | BatchCall], patience: Patience
    ) -> list[Answer | PanelgateError]:
        """Make the calls; once the panel has no time for us or cannot be reached, the rest are not tried."""
        stopped: list[PanelgateError] = []

        def call(one: SingleCall | BatchCall) -> Answer | PanelgateError:
            if stopped:
                return stopped[0]
            try:
                answer: Answer | PanelgateError = self.caller.ask(
                    provider, one, patience.window(self.caller.clock.now())
                )
            except PanelgateError as error:
                answer = error
            if (stop := _stop(answer)) is not None:
                stopped.append(stop)
            return answer

        return side_by_side(call, calls, most=1 if provider.interval else _SIDE_BY_SIDE)


def _stop(answer: Answer | PanelgateError) -> PanelgateError | None:
    """Return why no further call to a panel makes sense after this answer, or None if one does."""
    if isinstance(answer, Unavailable | SendFailure | StoreBusy):
        return answer
    if isinstance(answer, Refused) and answer.reason in RETRY_AFTER:
        return Unavailable(f"refused: {answer.reason}", retry_after=RETRY_AFTER[answer.reason])
    return None


# Reasons that hold for every id of a batch alike.
_OF_THE_CALL = frozenset({Reason.ACTION, *RETRY_AFTER})


def _single(answer: Answer | PanelgateError) -> Outcome:
    if isinstance(answer, Item | PanelgateError):
        return answer
    return UnreadableReply(f"an answer of the wrong kind: {type(answer).__name__}")


def _spread(ids: Sequence[int], answer: Answer | PanelgateError) -> Mapping[int, Outcome]:
    """Return a batch's answer by its ids; a refusal of the whole call says nothing of any of them."""
    if isinstance(answer, Items):
        return {number: answer.items.get(number) or UnreadableReply("left out of the answer") for number in ids}
    if isinstance(answer, PanelgateError) or (isinstance(answer, Refused) and answer.reason in _OF_THE_CALL):
        return dict.fromkeys(ids, answer)
    if isinstance(answer, Refused):
        return dict.fromkeys(ids, UnreadableReply(f"the whole batch was refused: {answer.text}"))
    return dict.fromkeys(ids, UnreadableReply(f"an answer of the wrong kind: {type(answer).__name__}"))
