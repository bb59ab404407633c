"""The tenants' money: a wallet item and a ledger of movements, each written once, always in one transaction.

``available`` is the sum of the ledger's ``available`` column, ``held`` that of its ``held`` column. A hold moves the
charge from the one to the other, a capture takes it out of ``held``, a release moves it back.

For tenants with a daily limit one item a UTC day has what their orders of it cost, whoever's money they spend. The item
of a browser token that has a limit has what its orders cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chalicelib.aws.table import Item, Table, TransactionRefused, Write
from chalicelib.errors import PanelgateError
from chalicelib.model import Allowance, Budget, Funding, Order


class ReferenceReused(PanelgateError):
    """A credit's reference was used before for another amount."""


@dataclass(frozen=True, slots=True)
class Balances:
    """A wallet in micro-USD; ``held`` belongs to orders whose outcome is not known yet."""

    available: int
    held: int


class DynamoWallet:
    """Wallets in the table; see ``ports.Wallet``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    def available(self, tenant: str) -> int:
        """Return the balance in micro-USD without held money."""
        return self.balances(tenant).available

    def balances(self, tenant: str) -> Balances:
        """Return what a tenant has; a tenant without a wallet has nothing."""
        item = self._table.get(f"T#{tenant}", "WALLET") or {}
        return Balances(item.get("available", 0), item.get("held", 0))

    def ledger(self, tenant: str) -> Iterator[Item]:
        """Yield the movements of a wallet: ``kind``, ``id``, ``available``, ``held``, ``at``."""
        yield from self._table.query(f"T#{tenant}", "LEDGER#")

    def credit(self, tenant: str, amount: int, *, reference: str) -> bool:
        """Add money once per reference.

        Args:
            tenant: whose wallet.
            amount: micro-USD, more than 0.
            reference: what tells this payment from all others.

        Returns:
            Whether it was added now; False if this very credit had been made before.

        Raises:
            ReferenceReused: the reference stands for another amount.
        """
        writes = [
            _entry(tenant, "CREDIT", reference, self._table.clock.now(), available=amount),
            Write(
                f"T#{tenant}",
                "WALLET",
                update="SET #available = if_not_exists(#available, :zero) + :amount,"
                " #held = if_not_exists(#held, :zero)",
                names={"#available": "available", "#held": "held"},
                values={":amount": amount, ":zero": 0},
            ),
        ]
        try:
            self._table.transact(writes)
        except TransactionRefused as refused:
            earlier = refused.failed.get(0)
            if earlier is None or earlier["available"] != amount:
                raise ReferenceReused("this reference was used before for another amount") from None
            return False
        return True


def hold(order: Order) -> list[Write]:
    """Return the writes that keep an order's charge back; the first one's condition is that there is enough."""
    return _movement(order, "HOLD", available=-order.wallet_charge, held=order.wallet_charge)


def count(order: Order) -> list[Write]:
    """Return the writes that count an order's charge, on its day and for its token, if it stays within the limits."""
    return [*_count_on_day(order), *_count_for_token(order)]


def _count_on_day(order: Order) -> list[Write]:
    if order.budget is None:
        return []
    room = order.budget.limit - order.charge
    # A charge beyond the limit itself has no room on a day without orders either.
    condition = "#spent <= :room" if room < 0 else "attribute_not_exists(#spent) OR #spent <= :room"
    return [
        Write(
            *_day(order.tenant, order.budget),
            update="SET #spent = if_not_exists(#spent, :nothing) + :charge",
            condition=condition,
            names={"#spent": "spent"},
            values={":charge": order.charge, ":nothing": 0, ":room": room},
        )
    ]


def _count_for_token(order: Order) -> list[Write]:
    if order.allowance is None:
        return []
    return [
        Write(
            *_token(order.tenant, order.allowance),
            update="SET #spent = #spent + :charge",
            condition="#spent <= :room",
            names={"#spent": "spent"},
            values={":charge": order.charge, ":room": order.allowance.limit - order.charge},
        )
    ]


def _recount(order: Order, by: int) -> list[Write]:
    """Return the writes that change what an order counts, on the day and for the token that it was counted for.

    They have no condition that could keep the money from moving; the order's own lets it happen once. What an expired
    token's orders cost decides nothing any more, and its item may be gone.
    """
    keys = []
    if order.budget is not None:
        keys.append(_day(order.tenant, order.budget))
    if order.allowance is not None and order.allowance.expires > order.updated:
        keys.append(_token(order.tenant, order.allowance))
    return [
        Write(
            *key,
            update="SET #spent = if_not_exists(#spent, :least) + :by",
            names={"#spent": "spent"},
            values={":by": by, ":least": max(0, -by)},
        )
        for key in keys
    ]


def _day(tenant: str, budget: Budget) -> tuple[str, str]:
    return f"T#{tenant}", f"SPEND#{budget.day}"


def _token(tenant: str, allowance: Allowance) -> tuple[str, str]:
    return f"T#{tenant}", f"TOKEN#{allowance.token}"


def capture(order: Order) -> list[Write]:
    """Return the writes that spend what an order holds."""
    return _movement(order, "CAPTURE", available=0, held=-order.wallet_charge)


def release(order: Order) -> list[Write]:
    """Return the writes that give back what an order holds, and what it counted."""
    given_back = _movement(order, "RELEASE", available=order.wallet_charge, held=-order.wallet_charge)
    return [*given_back, *_recount(order, -order.charge)]


def charge_again(order: Order) -> list[Write]:
    """Return the writes that spend the charge of an order whose hold was given back, and count it again."""
    return [*_movement(order, "CAPTURE", available=-order.wallet_charge, held=0), *_recount(order, order.charge)]


def spend(child: Order, *, held: int) -> list[Write]:
    """Return the writes that pay for a subscription's order, ``held`` of it out of what the subscription holds."""
    return _movement(child, "CAPTURE", available=held - child.wallet_charge, held=-held) if _pays(child) else []


def refund(order: Order, refunded: int) -> list[Write]:
    """Return the writes after which ``refunded`` micro-USD of an order's charge have gone back."""
    due = refunded - order.refunded
    if not due or not _pays(order):
        return []
    return _movement(order, "REFUND", available=due, held=0, after=refunded)


def settle(subscription: Order, *, spent: int) -> list[Write]:
    """Return the writes that spend ``spent`` of what a subscription still holds and give the rest back."""
    left = subscription.held or 0
    return _movement(subscription, "RELEASE", available=left - spent, held=-left) if _pays(subscription) else []


def _pays(order: Order) -> bool:
    return order.funding is Funding.WALLET


def _movement(order: Order, kind: str, *, available: int, held: int, after: int | None = None) -> list[Write]:
    """Return the two writes of a movement; ``after`` tells apart those of one kind of one order."""
    if not available and not held:
        return []
    taken = {"available": -available, "held": -held}
    sources = {name: amount for name, amount in taken.items() if amount > 0}
    return [
        Write(
            f"T#{order.tenant}",
            "WALLET",
            update="SET #available = #available + :available, #held = #held + :held",
            condition=" AND ".join(f"#{source} >= :{source}_taken" for source in sources) or "attribute_exists(pk)",
            names={"#available": "available", "#held": "held"},
            values={
                ":available": available,
                ":held": held,
                **{f":{source}_taken": amount for source, amount in sources.items()},
            },
        ),
        _entry(order.tenant, kind, str(order.id), order.updated, available=available, held=held, after=after),
    ]


def _entry(  # noqa: PLR0913 - a line of a ledger is made of these
    tenant: str, kind: str, name: str, at: int, *, available: int, held: int = 0, after: int | None = None
) -> Write:
    return Write(
        f"T#{tenant}",
        f"LEDGER#{kind}#{name}" if after is None else f"LEDGER#{kind}#{name}#{after}",
        put={"kind": kind.lower(), "id": name, "available": available, "held": held, "at": at},
        condition="attribute_not_exists(pk)",
    )
