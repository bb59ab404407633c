"""What is known around the unsettled orders of one account, and what one run of the settlement asks there.

Everything is read once: our own orders and marks when the run begins or when they are needed, and each number at the
provider the first time that somebody asks for it. The calls are counted, for a run is bounded.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from itertools import islice, takewhile

from chalicelib.actions import Action, Reason, Refused, Status
from chalicelib.batching import Batcher, Outcome, ids_at_once, reading_patience
from chalicelib.clock import SECOND, Clock
from chalicelib.errors import Unavailable
from chalicelib.evidence import Range, charged, is_before, is_parent, range_around
from chalicelib.model import Order, Provider, Search
from chalicelib.ports import Accounts, Bound, Mark, Orders

# Calls of one run to one provider; each is about many orders where it takes batches.
_CALLS = 20
# So many numbers are asked for at once where each takes a call.
_SINGLY = 5
# So many of our orders at a provider are gone through to find the ones around a lost one.
_TRAIL = 20_000
# So many marks are read: those around an order that was lost in the last minutes.
_MARKS = 30
# So many balances before a lost order are tried: one may have been read in a busy moment.
_BEFORES = 3
# So many open orders are gone through for those that make others, where no mark names them.
_OPEN = 2_000
# Records are read so many at once: each may have hundreds of kilobytes.
_RECORDS = 100


@dataclass(frozen=True, slots=True)
class _Record:
    """What is needed of the record of an order of ours that is placed; ``parent``: itself, if it makes others."""

    charge: Decimal
    parent: Order | None


@dataclass(slots=True)
class Inquiry:
    """One run's questions about one account.

    ``unsettled`` are all of the account's orders whose purchase is not known, ``due`` those that this run looks at.
    ``marks`` are the newest ones of the account, newest first, and ``befores`` those that are older than an order.
    ``trail`` are our orders at the provider, highest number first; ``is_cut``: it does not go back far enough.
    """

    orders: Orders
    accounts: Accounts
    batcher: Batcher
    clock: Clock
    provider: Provider
    end: int
    unsettled: Sequence[Order]
    due: InitVar[Sequence[Order]]
    marks: Sequence[Mark] = field(init=False)
    befores: Mapping[tuple[str, int], Sequence[Mark]] = field(init=False)
    trail: Sequence[Bound] = field(init=False)
    is_cut: bool = field(init=False)
    taken: set[int] = field(init=False)
    calls: int = _CALLS
    _by_time: dict[int, Mark | None] = field(init=False)
    _asked: dict[int, Outcome] = field(default_factory=dict)
    _records: dict[tuple[str, int], _Record] = field(default_factory=dict)

    def __post_init__(self, due: Sequence[Order]) -> None:
        """Read what is ours around the orders that are due."""
        account = self.provider.account
        self.marks = list(islice(self.accounts.marks(account), _MARKS)) if self.provider.exclusive_key else []
        self._by_time = {mark.at: mark for mark in self.marks}
        self.befores = {order.name: self._befores(order) for order in self.unsettled}
        oldest = min((some[-1].top for order in due if (some := self.befores[order.name])), default=None)
        created = min((order.created for order in due if not self.befores[order.name]), default=None)
        self.trail, self.is_cut = self._trail(oldest, created)
        self.taken = {bound.number for bound in self.trail}

    def _befores(self, order: Order) -> Sequence[Mark]:
        """Return the last marks that are older than an order, newest first: those that its first look has found."""
        if order.search is None:
            return [mark for mark in self.marks if is_before(mark, order)][:_BEFORES]
        found = [self._mark(order, at) for at in order.search.befores]
        return [mark for mark in found if mark is not None]

    def _mark(self, order: Order, at: int) -> Mark | None:
        """Return the mark of a time; many orders share one, so each is read once."""
        if at not in self._by_time:
            self._by_time[at] = self.accounts.get(order.account, at)
        return self._by_time[at]

    def _trail(self, low: int | None, created: int | None) -> tuple[list[Bound], bool]:
        """Return our orders at the provider, highest number first, down to ``low``, and to one bound before a time.

        The flag says that there were too many.
        """
        trail: list[Bound] = []
        for bound in islice(self.orders.bound(self.provider.account), _TRAIL):
            trail.append(bound)
            if (low is None or bound.number <= low) and (created is None or bound.at < created):
                return trail, False
        return trail, len(trail) == _TRAIL

    # -- where an order must be ------------------------------------------------------------------------------------

    @property
    def top(self) -> int:
        """The highest number at the provider that is ours."""
        return self.trail[0].number if self.trail else 0

    def quiet_at(self, search: Search) -> int:
        """Return from when on (epoch µs, by the settlement's clock) a request can no longer be on the way."""
        return search.since + self.provider.quiet * SECOND

    def reach(self, order: Order, after: int | None) -> Range:
        """Return where an order must be at the provider; without a mark before it, by the clocks.

        Args:
            order: one of the unsettled ones.
            after: the time of the first mark after its quiet period, None if there is none yet.
        """
        last = None if after is None else self._mark(order, after)
        befores = self.befores[order.name]
        reach = range_around(befores[0] if befores else None, last, self.trail)
        if befores:
            return reach
        low = next((bound.number for bound in self.trail if bound.at < order.created), 0)
        if order.search is None:
            return Range(low)
        quiet_at = self.quiet_at(order.search)
        return Range(low, min((bound.number for bound in self.trail if bound.sent > quiet_at), default=None))

    # -- what the provider says ------------------------------------------------------------------------------------

    def step(self) -> int:
        """Return how many numbers are asked for at once."""
        try:
            most = ids_at_once(self.provider, Action.STATUS)
        except Unavailable:
            most = 1
        return most if most > 1 else min(_SINGLY, self.provider.batch)

    def ask(self, numbers: Sequence[int]) -> bool:
        """Ask how orders at the provider are doing; False if that cannot be learned now."""
        missing = [number for number in numbers if number not in self._asked]
        if missing:
            step = self.step()
            self.calls -= -(-len(missing) // step) if step > _SINGLY else len(missing)
            now = self.clock.now()
            if self.calls < 0 or now >= self.end:
                return False
            patience = reading_patience(now, self.end)
            self._asked.update(self.batcher.ask(self.provider.account, Action.STATUS, missing, patience))
        return all(_is_told(self._asked[number]) for number in numbers)

    def statuses(self, numbers: Iterable[int]) -> dict[int, Status]:
        """Return what the provider showed of those numbers that are orders of the key's."""
        found = {number: self._asked.get(number) for number in numbers}
        return {number: outcome for number, outcome in found.items() if isinstance(outcome, Status)}

    # -- what is ours ----------------------------------------------------------------------------------------------

    def seen_since(self) -> list[Order]:
        """Look once more at who is unsettled and what is ours; return those of the new ones that make others."""
        known = {one.name for one in self.unsettled}
        new_ones = (one for one in self.orders.unsettled(self.provider.account) if one.name not in known)
        self.unsettled = [*self.unsettled, *new_ones]
        new = list(takewhile(lambda bound: bound.number > self.top, self.orders.bound(self.provider.account)))
        self.trail = [*new, *self.trail]
        self.taken |= {bound.number for bound in new}
        return self._makers(bound.name for bound in new)

    def parents(self, order: Order) -> list[Order] | None:
        """Return the subscriptions and drip-feeds that may have made orders since one was accepted.

        They were open at the mark before it, or came later. None if that cannot be told.
        """
        befores = self.befores[order.name]
        low = befores[-1].top if befores else 0
        names = {bound.name for bound in self.trail if bound.number > low}
        names |= {one.name for mark in befores for one in mark.charges.values()}
        if not befores:
            some = list(islice(self.orders.open(self.provider.account), _OPEN + 1))
            if len(some) > _OPEN:
                return None
            names |= {one.name for one in some}
        return self._makers(names)

    def _makers(self, names: Iterable[tuple[str, int]]) -> list[Order]:
        return [record.parent for record in self.records(names).values() if record.parent is not None]

    def without_made(
        self, numbers: Sequence[int], parents: Sequence[Order] | None, *, again: bool = False
    ) -> list[int] | None:
        """Return the numbers that are nobody's and that no parent says to have made; None if not all can be asked."""
        if parents is None:
            return None
        makers = [number_of(one) for one in parents]
        for number in makers if again else ():
            self._asked.pop(number, None)
        if not self.ask(makers):
            return None
        made = {child for status in self.statuses(makers).values() for child in status.orders or ()}
        return [number for number in numbers if number not in made and number not in self.taken]

    def records(self, names: Iterable[tuple[str, int]]) -> dict[tuple[str, int], _Record]:
        """Return what is known of orders of ours."""
        wanted = set(names)
        tenants: dict[str, list[int]] = defaultdict(list)
        for tenant, number in sorted(wanted - self._records.keys()):
            tenants[tenant].append(number)
        for tenant, numbers in tenants.items():
            for start in range(0, len(numbers), _RECORDS):
                for one in self.orders.get_many(tenant, numbers[start : start + _RECORDS]).values():
                    self._records[one.name] = _Record(charged(one), one if is_parent(one) else None)
        return {one: self._records[one] for one in wanted if one in self._records}


def number_of(order: Order) -> int:
    """Return an order's number at its provider, 0 for none yet."""
    return order.provider_order or 0


def _is_told(outcome: Outcome) -> bool:
    """Say whether a provider said what a number is: an order, or none. All else says nothing of it."""
    return isinstance(outcome, Status) or (isinstance(outcome, Refused) and outcome.reason is Reason.ORDER)
