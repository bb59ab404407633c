"""What speaks for and against an order whose outcome is not known (design.md 4): pure judgements.

Two kinds of evidence come from a provider whose key nobody else uses. Its order numbers grow, so a lost order has a
number above all that were ours when it was accepted; it is the one that nobody has and that fits. And its balance falls
by what our orders cost: if those that we know of explain the whole fall, the lost one was not bought.

No judgement compares the clocks of two containers: a mark that does not list an order as unsettled is older than the
order (`ports.Mark`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from chalicelib.actions import Status
from chalicelib.model import FINAL, NOT_BEGUN, OF_PARENTS, Order, OrderStatus
from chalicelib.order_types import SUBSCRIPTIONS, quoted, total_units
from chalicelib.ports import Bound, Mark

# Panels show whole cents at least.
_CENT = Decimal("0.01")
# What panels cut off a figure that they show.
_GRAIN = Decimal("0.00001")
# With more orders than these of which it is not known whether a balance had felt them, it proves nothing.
_DOUBTFUL = 8


def is_before(mark: Mark, order: Order) -> bool:
    """Say whether a mark is older than an order that is unsettled now, whatever the clocks say."""
    return order.name not in mark.unsettled


@dataclass(frozen=True, slots=True)
class Range:
    """Between which of a provider's orders a lost one must be: above ``low`` (0: none is known), below ``high``."""

    low: int
    high: int | None = None

    def __contains__(self, number: int) -> bool:
        return self.low < number and (self.high is None or number < self.high)


def range_around(before: Mark | None, after: Mark | None, trail: Iterable[Bound]) -> Range:
    """Return where an order must be at its provider.

    Args:
        before: the account before the order was accepted.
        after: the account when its request could no longer be on the way.
        trail: the provider's orders that are ours, down to ``before``.
    """
    low = before.top if before else 0
    if after is None:
        return Range(low)
    later = [b.number for b in trail if b.number > after.top_after and b.name not in after.unsettled]
    return Range(low, min(later, default=None))


def confirms(status: Status) -> bool:
    """Say whether a provider has an order that it had not confirmed when it gave the number."""
    return status.status not in (None, OrderStatus.UNKNOWN)


def fits(order: Order, status: Status) -> bool:
    """Say whether what a provider says of an order of its own may be said of ours: type, charge, what remains."""
    if not confirms(status):
        return False
    if order.type == SUBSCRIPTIONS:
        return status.posts is not None or status.status in OF_PARENTS
    quote, total = quoted(order), total_units(order)
    if status.posts is not None or status.status in OF_PARENTS or quote is None or status.charge is None:
        return False
    if total is not None and status.remains is not None and status.remains > total:
        return False
    if status.status in NOT_BEGUN and status.remains not in (None, total):
        return False
    return any(alike(status.charge, charge) for charge in _charges(quote, total, status))


def is_parent(order: Order) -> bool:
    """Say whether an order makes others at its provider: a subscription or a drip-feed (protocol.md 1.5)."""
    return order.type == SUBSCRIPTIONS or order.runs is not None


def may_have_made(parent: Order, status: Status) -> bool:
    """Say whether what a provider says of an order fits one that a subscription or a drip-feed of ours has made."""
    if not status.charge:
        return True
    if parent.type == SUBSCRIPTIONS:
        least, most = (parent.cost * int(parent.extra[bound]) / 1000 for bound in ("min", "max"))
    else:
        least = most = (quoted(parent) or Decimal(0)) / (parent.runs or 1)
    if status.status in FINAL and status.status is not OrderStatus.COMPLETED:
        least = Decimal(0)  # a part may have been paid back
    return least - _CENT < status.charge < most + _CENT


def _charges(quote: Decimal, total: int | None, status: Status) -> list[Decimal]:
    """Return what the provider may show as charged: the price, or what is left of it after a refund."""
    if status.status not in FINAL or status.status is OrderStatus.COMPLETED:
        return [quote]
    left = [Decimal(0)] if status.remains in (None, 0, total) else []
    if total is not None and status.remains is not None:
        left.append(quote * (total - status.remains) / total)
    return [quote, *left]


def alike(shown: Decimal, exact: Decimal) -> bool:
    """Compare a figure with one that was rounded, or cut, to the digits that it shows."""
    exponent = shown.as_tuple().exponent
    grain = min(_CENT, Decimal(1).scaleb(exponent)) if isinstance(exponent, int) else _CENT
    return abs(shown - exact) < max(grain, _GRAIN)


def last_charge(order: Order) -> Decimal | None:
    """Return what a provider said last that it charges for an order, in its currency."""
    said = order.reading.charge if order.reading else None
    return order.provider_charge if said is None else said


def charged(order: Order) -> Decimal:
    """Return what a provider keeps of the price of a placed order, in its currency.

    It is what the provider said last; some go on showing the whole price after they paid back.
    """
    quote = quoted(order) or Decimal(0)
    said = last_charge(order)
    if said is None or (order.refunded and said >= quote - _CENT / 2):
        return quote - quote * order.refunded / order.charge if order.charge else quote
    return said


@dataclass(frozen=True, slots=True)
class Purchase:
    """What one of our orders took from the balance between two marks; ``sure``: it certainly did."""

    charge: Decimal
    sure: bool


def purchases_between(
    before: Mark, after: Mark, trail: Iterable[Bound], charges: Mapping[int, Decimal]
) -> list[Purchase]:
    """Return what the orders that are known took from an account between two marks; a refund is less than nothing.

    Args:
        before: the mark before.
        after: the mark after.
        trail: the provider's orders that are ours.
        charges: what the provider charges for those of them, above ``before.top`` or in ``before.charges``, that are
            not in ``after.charges``.
    """
    known = {**charges, **{number: one.charge for number, one in after.charges.items()}}
    refunds = [known[number] - one.charge for number, one in before.charges.items()]
    found = [Purchase(refund, sure=True) for refund in refunds if refund]
    for bound in trail:
        one = bound.name
        if bound.number <= before.top or (bound.number > after.top_after and one not in after.unsettled):
            continue
        was_in_doubt = bound.number <= before.top_after or one in before.unsettled
        is_in_doubt = bound.number > after.top or one in after.unsettled
        found.append(Purchase(known[bound.number], sure=not (was_in_doubt or is_in_doubt)))
    return found


def was_not_bought(price: Decimal, fall: Decimal, purchases: Sequence[Purchase]) -> bool:
    """Say whether a balance proves that an order was not bought.

    Args:
        price: what the order should have cost.
        fall: by how much the balance fell around it.
        purchases: what else may have moved it.

    Returns:
        Whether the others explain the fall, and no choice of them explains it with the order among them.
    """
    doubtful = [one.charge for one in purchases if not one.sure]
    if len(doubtful) > _DOUBTFUL:
        return False
    rest = fall - sum((one.charge for one in purchases if one.sure), Decimal(0))
    error = _GRAIN * (len(purchases) + 2)
    sums = [sum(chosen, Decimal(0)) for n in range(len(doubtful) + 1) for chosen in combinations(doubtful, n)]
    without = any(abs(rest - one) <= error for one in sums)
    return without and not any(abs(rest - one - price) <= error + _CENT for one in sums)
