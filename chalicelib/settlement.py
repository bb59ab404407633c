"""UNKNOWN orders and what becomes of them: evidence is looked for, kept, and acted upon when it proves something.

A purchase is proved by the provider's own word: the number that it gave while it had not confirmed yet, or, where
nobody else orders with the key, the one order among its numbers that nobody has and that fits (`evidence`). That
nothing was bought is proved by the balance alone, and only after the provider's quiet period; that no order was found
proves nothing. What cannot be proved is the operator's to decide.

A look is bounded in calls and time and keeps on the order how far it came. It may run twice at once: every step is a
conditional write of `ports.Orders`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from chalicelib.actions import Placed
from chalicelib.batching import Batcher
from chalicelib.clock import HOUR, MINUTE, SECOND, Clock
from chalicelib.errors import AlreadyBound, PanelgateError
from chalicelib.evidence import (
    Purchase,
    Range,
    confirms,
    fits,
    is_before,
    is_parent,
    may_have_made,
    purchases_between,
    was_not_bought,
)
from chalicelib.inquiry import Inquiry, number_of
from chalicelib.log import logger
from chalicelib.model import Order, OrderState, Provider, Search, Source
from chalicelib.order_types import quoted
from chalicelib.ports import Accounts, Mark, Orders

# A lost order that is farther than this from the last one known is not looked for.
_FARTHEST = 20_000
# A look follows the last one after a minute, and from the twentieth on after ever more, up to six hours, in µs.
_PAUSE = 50 * SECOND
_LONGEST_PAUSE = 6 * HOUR
_STEADY_LOOKS = 20
# Where no look can prove anything, it is from the third one on.
_FEW_LOOKS = 3
# What an order keeps: sentences of evidence, and candidates.
_KEPT = 40
_LISTED = 10


def needs_decision(order: Order, quiet: int, now: int) -> bool:
    """Say whether an order is in the operator's queue.

    It is unknown after its provider's quiet period, was delivered late, or has ended without a word of what goes back.

    Args:
        order: any.
        quiet: the period in seconds.
        now: epoch µs.
    """
    is_old = now > order.attempt.send_by + quiet * SECOND
    return order.refund_open or order.late_order is not None or (order.state is OrderState.UNKNOWN and is_old)


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
        inquiry = Inquiry(self.orders, self.accounts, self.batcher, self.clock, provider, end, unsettled, due)
        settled = 0
        defects: list[Exception] = []
        # Those that waited longest come first: the calls of a run may not be enough for all.
        for order in sorted(due, key=_due):
            if self.clock.now() >= end or inquiry.calls <= 0:
                break
            try:
                settled += self._settle(order, inquiry)
            except PanelgateError as error:
                _tell(order, f"{type(error).__name__}: {error}")
            except Exception as error:  # noqa: BLE001 - it is raised below; it must not hide the other orders
                _tell(order, type(error).__name__)
                defects.append(error)
        if defects:
            raise ExceptionGroup(f"orders of {provider.slug} cannot be looked at", defects)
        return settled

    def _settle(self, order: Order, inquiry: Inquiry) -> bool:
        """Look at one order; return whether it is settled now."""
        search = self._begun(order, inquiry)
        if order.pending_order is not None and self._is_confirmed(order, order.pending_order, inquiry):
            return True
        reach = inquiry.reach(order, search.after)
        if not reach.low:
            told = "no order of ours at the provider is known to be older: its number is not sought"
        elif inquiry.is_cut and inquiry.trail[-1].number > reach.low:
            told = "too many of our orders have followed it: its number is not sought"
        else:
            return self._sought(order, search, reach, inquiry)
        self._keep(order, search, [told], inquiry)
        return False

    def _sought(self, order: Order, search: Search, reach: Range, inquiry: Inquiry) -> bool:
        """Look for an order's number at the provider, and at the balance if there is none; say whether that settled it.

        As long as a number was not seen that may fit too, nothing is proved.
        """
        search, is_whole = self._searched(reach, search, inquiry)
        candidates = self._candidates(order, search, reach, inquiry) if is_whole else None
        told, number = ("", None) if candidates is None else self._judged(order, candidates, inquiry)
        if number is not None and self._place(order, number, told, inquiry):
            return True
        if candidates is not None and not told:
            told = f"no order above {reach.low} at the provider fits that nobody has"
            proof = self._absence(order, search, reach, inquiry)
            if proof and self.orders.give_up(order, proof, until=inquiry.end, source=Source.SETTLEMENT):
                return True
        self._keep(order, search, [told] if told else [], inquiry)
        return False

    def _begun(self, order: Order, inquiry: Inquiry) -> Search:
        """Return how far an order's settlement has come, with the first mark after its quiet period.

        That counts from the first look, which came after the sender was done or gone.
        """
        if order.search is None:
            return Search(since=self.clock.now(), befores=tuple(mark.at for mark in inquiry.befores[order.name]))
        if order.search.after is not None:
            return order.search
        after = next((m.at for m in reversed(inquiry.marks) if _is_after(m, order, order.search, inquiry)), None)
        # What was on the way when its number was asked for may be there now: all are asked for once more.
        return order.search if after is None else replace(order.search, after=after, next=None)

    def _keep(self, order: Order, search: Search, sentences: Sequence[str], inquiry: Inquiry) -> None:
        """Keep how far a look came, when the next one is due, and what is new."""
        looks = search.looks + 1
        may_be_proved = inquiry.provider.exclusive_key or order.pending_order is not None
        steady = _STEADY_LOOKS if may_be_proved else _FEW_LOOKS
        pause = min(_PAUSE << max(0, min(looks - steady, 20)), _LONGEST_PAUSE)
        search = replace(search, looks=looks, due=self.clock.now() + pause)
        news = [sentence for sentence in sentences if sentence not in order.evidence]
        self.orders.look(order, search, news if len(order.evidence) < _KEPT else [], until=inquiry.end)

    def _place(self, order: Order, number: int, sentence: str, inquiry: Inquiry) -> bool:
        try:
            return self.orders.place(
                order, Placed(number), until=inquiry.end, source=Source.SETTLEMENT, evidence=sentence
            )
        except AlreadyBound:
            return False  # another settlement was faster, for another order

    # -- the provider's pending number -----------------------------------------------------------------------------

    def _is_confirmed(self, order: Order, number: int, inquiry: Inquiry) -> bool:
        """Place an order for which the provider gave a number that it has confirmed since."""
        inquiry.ask([number])
        status = inquiry.statuses([number]).get(number)
        if status is None or not confirms(status):
            return False
        return self._place(order, number, f"the provider confirmed its order {number}", inquiry)

    # -- the numbers between ---------------------------------------------------------------------------------------

    def _searched(self, reach: Range, search: Search, inquiry: Inquiry) -> tuple[Search, bool]:
        """Ask for the numbers where an order must be, from where the last look ended; say whether all were seen."""
        step = inquiry.step()
        # The lost order may be the last of all: one call more looks above the highest that is known.
        stop = reach.high or max(inquiry.top, reach.low) + step + 1
        far = reach.low + _FARTHEST
        seen = start = max(search.next or 0, reach.low + 1)
        while seen < min(stop, far):
            block = range(seen, min(stop, far, seen + step))
            if not inquiry.ask([number for number in block if number not in inquiry.taken]):
                break
            seen = block.stop
        found = [number for number in inquiry.statuses(range(start, seen)) if number not in inquiry.taken]
        candidates = sorted({*found, *(number for number in search.candidates if number not in inquiry.taken)})
        if len(candidates) > _KEPT:  # there is no room for more: the next look goes on from here
            seen = candidates[_KEPT]
        # Numbers above the highest that is known may be given to orders later.
        next_one = max(start, min(seen, inquiry.top + 1))
        return replace(search, next=next_one, candidates=tuple(candidates[:_KEPT])), seen >= stop

    def _candidates(self, order: Order, search: Search, reach: Range, inquiry: Inquiry) -> list[int] | None:
        """Return the numbers of the provider's orders that nobody has and that fit, as they are now.

        None if not all can be asked: one that is not seen may fit as well.
        """
        numbers = [number for number in search.candidates if number in reach and number not in inquiry.taken]
        if not inquiry.ask(numbers):
            return None
        said = order.pending_order  # a provider that gave a number means that one
        return [n for n, status in inquiry.statuses(numbers).items() if said in (None, n) and fits(order, status)]

    def _judged(self, order: Order, candidates: Sequence[int], inquiry: Inquiry) -> tuple[str, int | None]:
        """Return what the candidates say, in a sentence, and the one of them that is proved to be this order."""
        if not inquiry.provider.exclusive_key:
            told = f"orders at the provider that fit, though others may have placed them: {_listed(candidates)}"
            return (told if candidates else ""), None
        if not candidates:
            return "", None
        parents = inquiry.parents(order)
        left = inquiry.without_made(candidates, parents)
        if left is not None and len(left) == 1:
            # Who may have it was accepted before it was seen there, and is unsettled still or has it meanwhile.
            parents = [*parents, *inquiry.seen_since()] if parents is not None else None
            left = inquiry.without_made(left, parents, again=True)
        if left is None or parents is None:
            return f"subscriptions or drip-feeds may have made what fits: {_listed(candidates)}", None
        if not left:
            return "", None
        if len(left) > 1:
            return f"several orders at the provider fit and nobody has them: {_listed(left)}", None
        [number] = left
        return self._judged_alone(order, number, parents, inquiry)

    def _judged_alone(
        self, order: Order, number: int, parents: Sequence[Order], inquiry: Inquiry
    ) -> tuple[str, int | None]:
        status, asked = inquiry.statuses([number])[number], inquiry.statuses(map(number_of, parents))
        silent = [one for one in parents if (said := asked.get(number_of(one))) is None or said.orders is None]
        makers = [one.id for one in silent if may_have_made(one, status)]
        if makers:
            return f"order {number} at the provider fits, and may have been made by our {_listed(makers)}", None
        rivals = [one.id for one in inquiry.unsettled if one.name != order.name and self._may_be(one, number, inquiry)]
        if rivals:
            return f"order {number} at the provider fits, and fits the unsettled orders {_listed(rivals)} too", None
        return f"order {number} at the provider is the only one around that fits and that nobody has", number

    def _may_be(self, other: Order, number: int, inquiry: Inquiry) -> bool:
        """Say whether a number may be that of another unsettled order: only what is certain speaks against it."""
        if other.pending_order is not None:
            return other.pending_order == number
        befores = inquiry.befores.get(other.name, ())
        reach = inquiry.reach(other, other.search.after if other.search else None) if befores else Range(0)
        if is_parent(other) and number > reach.low:
            return True  # it, or one that it made
        return number in reach and fits(other, inquiry.statuses([number])[number])

    # -- the balance -----------------------------------------------------------------------------------------------

    def _absence(self, order: Order, search: Search, reach: Range, inquiry: Inquiry) -> str | None:
        """Return the sentence that proves an order not to have been bought, or None if nothing does."""
        price = quoted(order)
        after = inquiry.marks[0] if inquiry.marks else None
        if price is None or after is None or not _is_after(after, order, search, inquiry):
            return None
        if self._unexplained(search, reach, inquiry):
            return None
        for before in inquiry.befores[order.name]:
            purchases = self._purchases(order, before, after, inquiry)
            if purchases is not None and was_not_bought(price, before.balance - after.balance, purchases):
                return (
                    f"the balance went from {before.balance} to {after.balance}, for which {len(purchases)} other"
                    " orders and refunds account without this one, and no order at the provider fits that nobody has"
                )
        return None

    def _unexplained(self, search: Search, reach: Range, inquiry: Inquiry) -> list[int]:
        """Return the orders at the provider that nobody has and that fit none of ours: a price may have changed."""
        numbers = [number for number in search.candidates if number in reach and number not in inquiry.taken]
        statuses = inquiry.statuses(numbers)
        return [n for n, status in statuses.items() if not any(fits(one, status) for one in inquiry.unsettled)]

    def _purchases(self, order: Order, before: Mark, after: Mark, inquiry: Inquiry) -> list[Purchase] | None:
        """Return all but the order itself that may have moved a balance between two marks; None if one is unknown."""
        names = {number: one.name for number, one in before.charges.items()}
        names |= {bound.number: bound.name for bound in inquiry.trail if bound.number > before.top}
        names = {number: one for number, one in names.items() if number not in after.charges}
        records = inquiry.records(names.values())
        if not records.keys() >= set(names.values()):
            return None
        charges = {number: records[one].charge for number, one in names.items()}
        others = [one for one in inquiry.unsettled if one.name != order.name and not is_before(after, one)]
        doubtful = [Purchase(quoted(one) or Decimal(0), sure=False) for one in others]
        return [*purchases_between(before, after, inquiry.trail, charges), *doubtful]


def _tell(order: Order, cause: str) -> None:
    logger.error("order not settled", extra={"facts": {**order.facts, "cause": cause}})


def _due(order: Order) -> int:
    return order.search.due if order.search else 0


def _listed(numbers: Sequence[int]) -> str:
    more = ", …" if len(numbers) > _LISTED else ""
    return ", ".join(map(str, numbers[:_LISTED])) + more


def _is_after(mark: Mark, order: Order, search: Search, inquiry: Inquiry) -> bool:
    """Say whether a mark is younger than the quiet period of an unsettled order.

    One that was made before the order by a clock ahead of ours may look so, and shows what stood before the order. Nor
    may a container whose clock is ahead end the period: there is a look a minute, and they are counted too.
    """
    looks = min(inquiry.provider.quiet * SECOND // MINUTE, _STEADY_LOOKS // 2)
    return search.looks >= looks and mark.at >= inquiry.quiet_at(search) and not is_before(mark, order)
