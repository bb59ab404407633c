"""UNKNOWN orders and what becomes of them: evidence is looked for, kept, and acted upon when it proves something.

A purchase is proved by the provider's own word: the number that it gave while it had not confirmed yet, or, where
nobody else orders with the key, the one order among its numbers that nobody has and that fits (`evidence`). That
nothing was bought is proved by the balance alone, and only after the provider's quiet period; that no order was found
proves nothing. What cannot be proved is the operator's to decide.

A look is bounded in calls and time and keeps on the order how far it came. It may run twice at once: every step is a
conditional write of `ports.Orders`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice, takewhile

from chalicelib.actions import Action, Placed, Reason, Refused, Status
from chalicelib.batching import Batcher, Outcome, ids_at_once, reading_patience
from chalicelib.clock import HOUR, MINUTE, SECOND, Clock
from chalicelib.errors import AlreadyBound, PanelgateError, Unavailable
from chalicelib.evidence import (
    Purchase,
    Range,
    charged,
    confirms,
    fits,
    is_before,
    is_parent,
    may_have_made,
    name,
    purchases_between,
    range_around,
    was_not_bought,
)
from chalicelib.log import logger
from chalicelib.model import Account, Order, OrderState, Provider, Search, Source
from chalicelib.order_types import quoted
from chalicelib.ports import Accounts, Bound, Mark, Orders

# Calls of one run to one provider; each is about many orders where it takes batches.
_CALLS = 20
# So many numbers are asked for at once where each takes a call.
_SINGLY = 5
# A lost order that is farther than this from the last one known is not looked for.
_FARTHEST = 20_000
# So many of our orders at a provider are gone through to find the ones around a lost one.
_TRAIL = 20_000
# So many marks are read: those around an order that was lost in the last minutes.
_MARKS = 30
# So many balances before a lost order are tried: one may have been read in a busy moment.
_BEFORES = 3
# A look follows the last one after a minute, and from the twentieth on after ever more, up to six hours, in µs.
_PAUSE = 50 * SECOND
_LONGEST_PAUSE = 6 * HOUR
_STEADY_LOOKS = 20
# Where no look can prove anything, it is from the third one on.
_FEW_LOOKS = 3
# What an order keeps: sentences of evidence, and candidates.
_KEPT = 40
_LISTED = 10
# So many open orders are gone through for those that make others, where no mark names them.
_OPEN = 2_000
# Records are read so many at once: each may have hundreds of kilobytes.
_RECORDS = 100


def needs_decision(order: Order, quiet: int, now: int) -> bool:
    """Say whether an order is in the operator's queue: unknown after its provider's quiet period, or delivered late.

    Args:
        order: any.
        quiet: the period in seconds.
        now: epoch µs.
    """
    is_old = now > order.attempt.send_by + quiet * SECOND
    return order.late_order is not None or (order.state is OrderState.UNKNOWN and is_old)


@dataclass(frozen=True, slots=True)
class _Record:
    """What is needed of the record of an order of ours that is placed; ``parent``: itself, if it makes others."""

    charge: Decimal
    parent: Order | None


@dataclass(slots=True)
class _Case:
    """What is known around the unsettled orders of one provider, and what this run has asked there.

    ``marks`` are the newest ones of the account, newest first, and ``befores`` those that are older than an order.
    ``trail`` are our orders at the provider, highest number first; ``is_cut``: it does not go back far enough.
    """

    provider: Provider
    unsettled: Sequence[Order]
    marks: Sequence[Mark]
    befores: Mapping[tuple[str, int], Sequence[Mark]]
    by_time: dict[int, Mark | None]
    trail: Sequence[Bound]
    is_cut: bool
    end: int
    taken: set[int] = field(default_factory=set)
    asked: dict[int, Outcome] = field(default_factory=dict)
    records: dict[tuple[str, int], _Record] = field(default_factory=dict)
    calls: int = _CALLS

    def __post_init__(self) -> None:
        self.taken = {bound.number for bound in self.trail}

    @property
    def top(self) -> int:
        """The highest number at the provider that is ours."""
        return self.trail[0].number if self.trail else 0

    def statuses(self, numbers: Iterable[int]) -> dict[int, Status]:
        """Return what the provider showed of those numbers that are orders of the key's."""
        found = {number: self.asked.get(number) for number in numbers}
        return {number: outcome for number, outcome in found.items() if isinstance(outcome, Status)}


@dataclass(frozen=True, slots=True)
class Settlement:
    """Settles orders; everything it needs is handed in."""

    orders: Orders
    accounts: Accounts
    batcher: Batcher
    clock: Clock

    def run(self, provider: Provider, *, end: int) -> int:
        """Look at the UNKNOWN orders of a provider that are due; return how many were settled.

        Args:
            provider: whose.
            end: when to be done, in epoch µs.

        Raises:
            ExceptionGroup: what nobody expected of some orders; the others had their turn before.
        """
        unsettled = [one for one in self.orders.unsettled(provider.account) if one.state is not OrderState.NOT_PLACED]
        now = self.clock.now()
        due = [one for one in unsettled if one.state is OrderState.UNKNOWN and _due(one) <= now]
        if not due:
            return 0
        case = self._case(provider, unsettled, due, end)
        settled = 0
        defects: list[Exception] = []
        # Those that waited longest come first: the calls of a run may not be enough for all.
        for order in sorted(due, key=_due):
            if self.clock.now() >= end or case.calls <= 0:
                break
            try:
                settled += self._settle(order, case)
            except PanelgateError as error:
                _tell(order, f"{type(error).__name__}: {error}")
            except Exception as error:  # noqa: BLE001 - it is raised below; it must not hide the other orders
                _tell(order, type(error).__name__)
                defects.append(error)
        if defects:
            raise ExceptionGroup(f"orders of {provider.slug} cannot be looked at", defects)
        return settled

    def _case(self, provider: Provider, unsettled: Sequence[Order], due: Sequence[Order], end: int) -> _Case:
        marks = list(islice(self.accounts.marks(provider.account), _MARKS)) if provider.exclusive_key else []
        by_time: dict[int, Mark | None] = {mark.at: mark for mark in marks}
        befores = {name(order): self._befores(order, marks, by_time) for order in unsettled}
        oldest = min((some[-1].top for order in due if (some := befores[name(order)])), default=None)
        created = min((order.created for order in due if not befores[name(order)]), default=None)
        trail, is_cut = self._trail(provider, oldest, created)
        return _Case(provider, unsettled, marks, befores, by_time, trail, is_cut, end)

    def _befores(self, order: Order, marks: Sequence[Mark], by_time: dict[int, Mark | None]) -> Sequence[Mark]:
        """Return the last marks that are older than an order, newest first: those that its first look has found."""
        if order.search is None:
            return [mark for mark in marks if is_before(mark, order)][:_BEFORES]
        found = [self._mark(order.account, at, by_time) for at in order.search.befores]
        return [mark for mark in found if mark is not None]

    def _mark(self, account: Account, at: int, by_time: dict[int, Mark | None]) -> Mark | None:
        """Return the mark of a time; many orders share one, so each is read once."""
        if at not in by_time:
            by_time[at] = self.accounts.get(account, at)
        return by_time[at]

    def _trail(self, provider: Provider, low: int | None, created: int | None) -> tuple[list[Bound], bool]:
        """Return our orders at the provider, highest number first, down to ``low``, and to one bound before a time.

        The flag says that there were too many.
        """
        trail: list[Bound] = []
        for bound in islice(self.orders.bound(provider.account), _TRAIL):
            trail.append(bound)
            if (low is None or bound.number <= low) and (created is None or bound.at < created):
                return trail, False
        return trail, len(trail) == _TRAIL

    def _settle(self, order: Order, case: _Case) -> bool:
        """Look at one order; return whether it is settled now."""
        search = self._begun(order, case)
        if order.pending_order is not None and self._is_confirmed(order, order.pending_order, case):
            return True
        reach = self._reach(order, case, search.after)
        if not reach.low:
            told = "no order of ours at the provider is known to be older: its number is not sought"
        elif case.is_cut and case.trail[-1].number > reach.low:
            told = "too many of our orders have followed it: its number is not sought"
        else:
            return self._sought(order, search, reach, case)
        self._keep(order, search, [told], case)
        return False

    def _sought(self, order: Order, search: Search, reach: Range, case: _Case) -> bool:
        """Look for an order's number at the provider, and at the balance if there is none; say whether that settled it.

        As long as a number was not seen that may fit too, nothing is proved.
        """
        search, is_whole = self._searched(reach, search, case)
        candidates = self._candidates(order, search, reach, case) if is_whole else None
        told, number = ("", None) if candidates is None else self._judged(order, candidates, case)
        if number is not None and self._place(order, number, told, case):
            return True
        if candidates is not None and not told:
            told = f"no order above {reach.low} at the provider fits that nobody has"
            proof = self._absence(order, search, reach, case)
            if proof and self.orders.give_up(order, proof, until=case.end, source=Source.SETTLEMENT):
                return True
        self._keep(order, search, [told] if told else [], case)
        return False

    def _begun(self, order: Order, case: _Case) -> Search:
        """Return how far an order's settlement has come, with the first mark after its quiet period.

        That counts from the first look, which came after the sender was done or gone.
        """
        if order.search is None:
            return Search(since=self.clock.now(), befores=tuple(mark.at for mark in case.befores[name(order)]))
        if order.search.after is not None:
            return order.search
        after = next((m.at for m in reversed(case.marks) if _is_after(m, order, order.search, case.provider)), None)
        # What was on the way when its number was asked for may be there now: all are asked for once more.
        return order.search if after is None else replace(order.search, after=after, next=None)

    def _reach(self, order: Order, case: _Case, after: int | None) -> Range:
        """Return where an order must be at the provider; without a mark before it, by the clocks."""
        last = None if after is None else self._mark(order.account, after, case.by_time)
        befores = case.befores[name(order)]
        reach = range_around(befores[0] if befores else None, last, case.trail)
        if befores:
            return reach
        low = next((bound.number for bound in case.trail if bound.at < order.created), 0)
        if order.search is None:
            return Range(low)
        quiet_at = _quiet_at(order.search, case.provider)
        return Range(low, min((bound.number for bound in case.trail if bound.sent > quiet_at), default=None))

    def _keep(self, order: Order, search: Search, sentences: Sequence[str], case: _Case) -> None:
        """Keep how far a look came, when the next one is due, and what is new."""
        looks = search.looks + 1
        may_be_proved = case.provider.exclusive_key or order.pending_order is not None
        steady = _STEADY_LOOKS if may_be_proved else _FEW_LOOKS
        pause = min(_PAUSE << max(0, min(looks - steady, 20)), _LONGEST_PAUSE)
        search = replace(search, looks=looks, due=self.clock.now() + pause)
        news = [sentence for sentence in sentences if sentence not in order.evidence]
        self.orders.look(order, search, news if len(order.evidence) < _KEPT else [], until=case.end)

    def _place(self, order: Order, number: int, sentence: str, case: _Case) -> bool:
        try:
            return self.orders.place(order, Placed(number), until=case.end, source=Source.SETTLEMENT, evidence=sentence)
        except AlreadyBound:
            return False  # another settlement was faster, for another order

    # -- the provider's pending number -----------------------------------------------------------------------------

    def _is_confirmed(self, order: Order, number: int, case: _Case) -> bool:
        """Place an order for which the provider gave a number that it has confirmed since."""
        self._ask([number], case)
        status = case.statuses([number]).get(number)
        if status is None or not confirms(status):
            return False
        return self._place(order, number, f"the provider confirmed its order {number}", case)

    # -- the numbers between ---------------------------------------------------------------------------------------

    def _searched(self, reach: Range, search: Search, case: _Case) -> tuple[Search, bool]:
        """Ask for the numbers where an order must be, from where the last look ended; say whether all were seen."""
        step = self._step(case.provider)
        # The lost order may be the last of all: one call more looks above the highest that is known.
        stop = reach.high or max(case.top, reach.low) + step + 1
        far = reach.low + _FARTHEST
        seen = start = max(search.next or 0, reach.low + 1)
        while seen < min(stop, far):
            block = range(seen, min(stop, far, seen + step))
            if not self._ask([number for number in block if number not in case.taken], case):
                break
            seen = block.stop
        found = [number for number in case.statuses(range(start, seen)) if number not in case.taken]
        candidates = sorted({*found, *(number for number in search.candidates if number not in case.taken)})
        if len(candidates) > _KEPT:  # there is no room for more: the next look goes on from here
            seen = candidates[_KEPT]
        # Numbers above the highest that is known may be given to orders later.
        next_one = max(start, min(seen, case.top + 1))
        return replace(search, next=next_one, candidates=tuple(candidates[:_KEPT])), seen >= stop

    def _step(self, provider: Provider) -> int:
        try:
            most = ids_at_once(provider, Action.STATUS)
        except Unavailable:
            most = 1
        return most if most > 1 else min(_SINGLY, provider.batch)

    def _ask(self, numbers: Sequence[int], case: _Case) -> bool:
        """Ask how orders at the provider are doing; False if that cannot be learned now."""
        missing = [number for number in numbers if number not in case.asked]
        if missing:
            step = self._step(case.provider)
            case.calls -= -(-len(missing) // step) if step > _SINGLY else len(missing)
            now = self.clock.now()
            if case.calls < 0 or now >= case.end:
                return False
            patience = reading_patience(now, case.end)
            case.asked.update(self.batcher.ask(case.provider.account, Action.STATUS, missing, patience))
        return all(_is_told(case.asked[number]) for number in numbers)

    def _candidates(self, order: Order, search: Search, reach: Range, case: _Case) -> list[int] | None:
        """Return the numbers of the provider's orders that nobody has and that fit, as they are now.

        None if not all can be asked: one that is not seen may fit as well.
        """
        numbers = [number for number in search.candidates if number in reach and number not in case.taken]
        if not self._ask(numbers, case):
            return None
        said = order.pending_order  # a provider that gave a number means that one
        return [n for n, status in case.statuses(numbers).items() if said in (None, n) and fits(order, status)]

    def _judged(self, order: Order, candidates: Sequence[int], case: _Case) -> tuple[str, int | None]:
        """Return what the candidates say, in a sentence, and the one of them that is proved to be this order."""
        if not case.provider.exclusive_key:
            told = f"orders at the provider that fit, though others may have placed them: {_listed(candidates)}"
            return (told if candidates else ""), None
        if not candidates:
            return "", None
        parents = self._parents(order, case)
        left = self._without_made(candidates, parents, case)
        if left is not None and len(left) == 1:
            # Who may have it was accepted before it was seen there, and is unsettled still or has it meanwhile.
            parents = [*parents, *self._seen_since(case)] if parents is not None else None
            left = self._without_made(left, parents, case, again=True)
        if left is None or parents is None:
            return f"subscriptions or drip-feeds may have made what fits: {_listed(candidates)}", None
        if not left:
            return "", None
        if len(left) > 1:
            return f"several orders at the provider fit and nobody has them: {_listed(left)}", None
        [number] = left
        return self._judged_alone(order, number, parents, case)

    def _judged_alone(self, order: Order, number: int, parents: Sequence[Order], case: _Case) -> tuple[str, int | None]:
        status, asked = case.statuses([number])[number], case.statuses(map(_number, parents))
        silent = [one for one in parents if (said := asked.get(_number(one))) is None or said.orders is None]
        makers = [one.id for one in silent if may_have_made(one, status)]
        if makers:
            return f"order {number} at the provider fits, and may have been made by our {_listed(makers)}", None
        rivals = [one.id for one in case.unsettled if name(one) != name(order) and self._may_be(one, number, case)]
        if rivals:
            return f"order {number} at the provider fits, and fits the unsettled orders {_listed(rivals)} too", None
        return f"order {number} at the provider is the only one around that fits and that nobody has", number

    def _may_be(self, other: Order, number: int, case: _Case) -> bool:
        """Say whether a number may be that of another unsettled order: only what is certain speaks against it."""
        if other.pending_order is not None:
            return other.pending_order == number
        befores = case.befores.get(name(other), ())
        reach = self._reach(other, case, other.search.after if other.search else None) if befores else Range(0)
        if is_parent(other) and number > reach.low:
            return True  # it, or one that it made
        return number in reach and fits(other, case.statuses([number])[number])

    def _seen_since(self, case: _Case) -> list[Order]:
        """Look once more at who is unsettled and what is ours; return those of the new ones that make others."""
        known = {name(one) for one in case.unsettled}
        case.unsettled = [
            *case.unsettled,
            *(o for o in self.orders.unsettled(case.provider.account) if name(o) not in known),
        ]
        new = list(takewhile(lambda bound: bound.number > case.top, self.orders.bound(case.provider.account)))
        case.trail = [*new, *case.trail]
        case.taken |= {bound.number for bound in new}
        return self._makers({(bound.tenant, bound.order) for bound in new}, case)

    # -- orders that make others -----------------------------------------------------------------------------------

    def _parents(self, order: Order, case: _Case) -> list[Order] | None:
        """Return the subscriptions and drip-feeds that may have made orders since one was accepted.

        They were open at the mark before it, or came later. None if that cannot be told.
        """
        befores = case.befores[name(order)]
        low = befores[-1].top if befores else 0
        names = {(bound.tenant, bound.order) for bound in case.trail if bound.number > low}
        names |= {(one.tenant, one.order) for mark in befores for one in mark.charges.values()}
        if not befores:
            some = list(islice(self.orders.open(case.provider.account), _OPEN + 1))
            if len(some) > _OPEN:
                return None
            names |= {name(one) for one in some}
        return self._makers(names, case)

    def _makers(self, names: Iterable[tuple[str, int]], case: _Case) -> list[Order]:
        records = self._records(names, case)
        return [record.parent for record in records.values() if record.parent is not None]

    def _without_made(
        self, numbers: Sequence[int], parents: Sequence[Order] | None, case: _Case, *, again: bool = False
    ) -> list[int] | None:
        """Return the numbers that are nobody's and that no parent says to have made; None if not all can be asked."""
        if parents is None:
            return None
        makers = [_number(one) for one in parents]
        for number in makers if again else ():
            case.asked.pop(number, None)
        if not self._ask(makers, case):
            return None
        made = {child for status in case.statuses(makers).values() for child in status.orders or ()}
        return [number for number in numbers if number not in made and number not in case.taken]

    def _records(self, names: Iterable[tuple[str, int]], case: _Case) -> dict[tuple[str, int], _Record]:
        """Return what is known of orders of ours."""
        wanted = set(names)
        tenants: dict[str, list[int]] = defaultdict(list)
        for tenant, number in sorted(wanted - case.records.keys()):
            tenants[tenant].append(number)
        for tenant, numbers in tenants.items():
            for start in range(0, len(numbers), _RECORDS):
                for one in self.orders.get_many(tenant, numbers[start : start + _RECORDS]).values():
                    case.records[name(one)] = _Record(charged(one), one if is_parent(one) else None)
        return {one: case.records[one] for one in wanted if one in case.records}

    # -- the balance -----------------------------------------------------------------------------------------------

    def _absence(self, order: Order, search: Search, reach: Range, case: _Case) -> str | None:
        """Return the sentence that proves an order not to have been bought, or None if nothing does."""
        price = quoted(order)
        after = case.marks[0] if case.marks else None
        if price is None or after is None or not _is_after(after, order, search, case.provider):
            return None
        if self._unexplained(search, reach, case):
            return None
        for before in case.befores[name(order)]:
            purchases = self._purchases(order, before, after, case)
            if purchases is not None and was_not_bought(price, before.balance - after.balance, purchases):
                return (
                    f"the balance went from {before.balance} to {after.balance}, for which {len(purchases)} other"
                    " orders and refunds account without this one, and no order at the provider fits that nobody has"
                )
        return None

    def _unexplained(self, search: Search, reach: Range, case: _Case) -> list[int]:
        """Return the orders at the provider that nobody has and that fit none of ours: a price may have changed."""
        numbers = [number for number in search.candidates if number in reach and number not in case.taken]
        statuses = case.statuses(numbers)
        return [n for n, status in statuses.items() if not any(fits(one, status) for one in case.unsettled)]

    def _purchases(self, order: Order, before: Mark, after: Mark, case: _Case) -> list[Purchase] | None:
        """Return all but the order itself that may have moved a balance between two marks; None if one is unknown."""
        names = {number: (one.tenant, one.order) for number, one in before.charges.items()}
        names |= {bound.number: (bound.tenant, bound.order) for bound in case.trail if bound.number > before.top}
        names = {number: one for number, one in names.items() if number not in after.charges}
        records = self._records(names.values(), case)
        if not records.keys() >= set(names.values()):
            return None
        charges = {number: records[one].charge for number, one in names.items()}
        others = [one for one in case.unsettled if name(one) != name(order) and not is_before(after, one)]
        doubtful = [Purchase(quoted(one) or Decimal(0), sure=False) for one in others]
        return [*purchases_between(before, after, case.trail, charges), *doubtful]


def _tell(order: Order, cause: str) -> None:
    facts = {"order": order.id, "tenant": order.tenant, "provider": order.provider, "cause": cause}
    logger.error("order not settled", extra={"facts": facts})


def _due(order: Order) -> int:
    return order.search.due if order.search else 0


def _number(order: Order) -> int:
    return order.provider_order or 0


def _is_told(outcome: Outcome) -> bool:
    """Say whether a provider said what a number is: an order, or none. All else says nothing of it."""
    return isinstance(outcome, Status) or (isinstance(outcome, Refused) and outcome.reason is Reason.ORDER)


def _listed(numbers: Sequence[int]) -> str:
    more = ", …" if len(numbers) > _LISTED else ""
    return ", ".join(map(str, numbers[:_LISTED])) + more


def _is_after(mark: Mark, order: Order, search: Search, provider: Provider) -> bool:
    """Say whether a mark is younger than the quiet period of an unsettled order.

    One that was made before the order by a clock ahead of ours may look so, and shows what stood before the order. Nor
    may a container whose clock is ahead end the period: there is a look a minute, and they are counted too.
    """
    looks = min(provider.quiet * SECOND // MINUTE, _STEADY_LOOKS // 2)
    return search.looks >= looks and mark.at >= _quiet_at(search, provider) and not is_before(mark, order)


def _quiet_at(search: Search, provider: Provider) -> int:
    """Return from when on (epoch µs, by the settlement's clock) a request can no longer be on the way."""
    return search.since + provider.quiet * SECOND
