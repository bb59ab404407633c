"""Open orders are looked at though nobody asks: refunds and subscriptions' orders do not wait for their tenant to call.

Where nobody else orders with an account's key, the account is marked at the same time: what its balance stood at and
what it charged for the open orders, by which the settlement tells later whether a lost order was bought.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from chalicelib.actions import Action, Balance, GetBalance
from chalicelib.batching import READ_PATIENCE, Patience, ids_at_once, reading_patience
from chalicelib.clock import MINUTE, Clock
from chalicelib.errors import PanelgateError, Unavailable
from chalicelib.evidence import charged
from chalicelib.log import logger
from chalicelib.model import RECHECKS, Order, Provider
from chalicelib.ports import Accounts, Charged, Mark, Orders
from chalicelib.tracking import Tracking

# So many open orders of one provider are looked at in one run; where each takes a call, so many.
MOST_OPEN, _AT_ONCE_SINGLY = 2_000, 20
# Where no mark needs them all: a call a minute less is one more that a tenant need not wait for.
_FEW = 5
# An account is not marked beside more unsettled orders than this: with as many open ones as are looked at, a mark with
# the longest names is still below the 400 KB of an item. So many are unsettled only while a panel loses its replies.
MOST_UNSETTLED = 4_000
# A live order is looked at again after a tenth of its age, within these bounds, in µs.
_SOONEST, _LATEST = MINUTE, 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Following:
    """Looks at open orders; everything it needs is handed in."""

    orders: Orders
    accounts: Accounts
    tracking: Tracking
    clock: Clock

    def run(self, provider: Provider, *, end: int, accounts: int = 1) -> int:
        """Look at an account's open orders that are due, and mark it; return how many orders were seen.

        Args:
            provider: whose, as it is called for the account.
            end: when to be done, in epoch µs.
            accounts: among how many of the provider's accounts its calls are shared.
        """
        most = _most(provider, accounts)
        top = self._top(provider)
        marked = provider.exclusive_key and self._is_mark_due(provider, top)
        live = list(islice(self.orders.open(provider.account, before=None if marked else self.clock.now()), most + 1))
        seen = self._look(live[:most], end)
        if marked and len(live) <= most and len(seen) == len(live) and self.clock.now() < end:
            self._mark(provider, top, seen, end)
        ended = list(islice(self.orders.ended(provider.account, before=self.clock.now()), most))
        return len(seen) + len(self._look(ended, end))

    def _look(self, orders: Sequence[Order], end: int) -> list[Order]:
        """Ask how orders are doing; return those that the panel spoke of, as they are now."""
        if not orders or self.clock.now() >= end:
            return []
        seen: list[Order] = []
        for order, progress in self.tracking.refresh(orders, Patience(READ_PATIENCE, end), until=end):
            if self.clock.now() < end:
                self.orders.postpone(order, self._next_look(progress.order), until=end)
            if not progress.stale or progress.is_gone:  # one that was deleted there moves no money any more
                seen.append(progress.order)
        return seen

    def _next_look(self, order: Order) -> int | None:
        """Return when an order is looked at next (epoch µs), None for never again."""
        now = self.clock.now()
        if not order.is_over:
            return now + min(max(_SOONEST, (now - order.created) // 10), _LATEST)
        ended = order.journal[-1].at if order.journal else order.created
        return next((ended + pause for pause in RECHECKS if ended + pause > now), None)

    # -- marks -----------------------------------------------------------------------------------------------------

    def _top(self, provider: Provider) -> int:
        return next((bound.number for bound in self.orders.bound(provider.account)), 0)

    def _is_mark_due(self, provider: Provider, top: int) -> bool:
        """Say whether something has moved, or may have, since the account was marked last."""
        last = next(self.accounts.marks(provider.account), None)
        is_unsettled = next(self.orders.unsettled(provider.account), None) is not None
        return last is None or is_unsettled or last.top != top or bool(last.unsettled)

    def _mark(self, provider: Provider, top: int, live: Sequence[Order], end: int) -> None:
        """Read the balance, and keep it with what is known of the orders around it.

        The order of the reads matters: whatever was bound before the balance was read is in it, and whoever is not
        among the unsettled ones afterwards was accepted later.
        """
        try:
            now = self.clock.now()
            window = reading_patience(now, end).window(now)
            balance = self.tracking.batcher.caller.ask(provider, GetBalance(), window)
        except PanelgateError as error:
            logger.warning("account not marked", extra={"facts": {"provider": provider.slug, "cause": str(error)}})
            return
        if not isinstance(balance, Balance):
            return
        unsettled = frozenset(one.name for one in islice(self.orders.unsettled(provider.account), MOST_UNSETTLED + 1))
        if len(unsettled) > MOST_UNSETTLED:
            facts = {"provider": provider.slug, "cause": f"more than {MOST_UNSETTLED} orders are not settled"}
            logger.warning("account not marked", extra={"facts": facts})
            return
        charges = {
            order.provider_order: Charged(order.tenant, order.id, charged(order))
            for order in live
            if order.provider_order is not None and not order.is_over
        }
        mark = Mark(
            at=self.clock.now(),
            balance=balance.amount,
            top=top,
            top_after=self._top(provider),
            charges=charges,
            unsettled=unsettled,
        )
        self.accounts.add(provider.account, mark, until=end)


def _most(provider: Provider, accounts: int) -> int:
    try:
        takes_many = ids_at_once(provider, Action.STATUS) > 1
    except Unavailable:
        return 0
    if takes_many:
        return MOST_OPEN
    return _AT_ONCE_SINGLY if provider.exclusive_key else max(1, _FEW // accounts)
