"""An audit of a stage's money: every balance recomputed from the records it rests on. For the operator, no Lambda.

It streams: a tenant's orders and their ledger entries are read side by side in the order of their keys, and a hundred
orders with what they are tied to are in memory at once.

It reads a live table, where records that are written together are read one after the other. So what looks wrong is
read again, with a pause, until it looks right or two readings agree. Nothing that is compared here ever comes back to
what it was: an order moves on, what it holds shrinks, what went back of it grows, a ledger only gains entries. Two
equal readings therefore mean that all of it stood so in the moment between them, and the pause is longer than a
transaction takes to show in all its items. Only then is it a finding. What is written at every look is told of as in
motion: nothing is known of it. That is never an order for long, but it may be the wallet of a tenant who does not stop
ordering.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import TypeVar

from chalicelib.aws.accounts import partition
from chalicelib.aws.audit_rules import (
    OF_ORDERS,
    Books,
    Case,
    Finding,
    Key,
    Pointer,
    binding_faults,
    claim_faults,
    entry_faults,
    movement,
    named_order,
    note_faults,
    order_faults,
    order_key,
    order_of,
    related_keys,
    wallet_faults,
)
from chalicelib.aws.directory import DynamoDirectory
from chalicelib.aws.table import Item, Table
from chalicelib.aws.wallet import DynamoWallet

T = TypeVar("T")
Rule = Callable[[T], Iterator[Finding]]

# Seconds between readings of what looked wrong; a transaction shows in all its items long before the first is over.
_PAUSES = (0.5, 0.5, 1, 1, 2, 2)
_AT_ONCE = 100


def findings(table: Table, tenant: str | None = None) -> Iterator[Finding]:
    """Yield each record that is wrong, once; the reason for it may be in another one, which is named in the sentence.

    Args:
        table: of the stage; it may be in use.
        tenant: whose records; None for every tenant's, and the bindings and notes of whoever else they name.
    """
    audit = _Audit(table)
    tenants = [item["sk"] for item in table.query("TENANTS")] if tenant is None else [tenant]
    seen: set[Key] = set()
    for finding in audit.run(tenants, tenant):
        if (finding.pk, finding.sk) not in seen:
            seen.add((finding.pk, finding.sk))
            yield finding


class _Audit:
    """Reads what the rules compare."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._wallet = DynamoWallet(table)

    def run(self, tenants: Iterable[str], only: str | None) -> Iterator[Finding]:
        """Yield what is wrong, tenant by tenant, then provider by provider; ``only`` names the one who is asked for."""
        for name in tenants:
            for entry in self._wallet.ledger(name):  # written once, so that one look is enough
                yield from entry_faults(entry)
            yield from self._orders(name)
            yield from self._pointers(self._table.query(f"T#{name}", "CLAIM#"), claim_faults)
            yield from self._checked((f"T#{name}", "WALLET"), partial(self._books, name), partial(wallet_faults, name))
        # A provider that was removed keeps its accounts, their bindings and what waits for a decision.
        for account in DynamoDirectory(self._table).every_account():
            for prefix, rule in (("BOUND#", binding_faults), ("REFUND#", note_faults)):
                named = self._table.query(partition(account), prefix)
                mine = (item for item in named if only in (None, item.get("tenant")))
                yield from self._pointers(mine, rule)

    def _checked(self, key: Key, read: Callable[[], T], rule: Rule[T]) -> Iterator[Finding]:
        """Read something until it looks right or two readings agree, and yield what is wrong then."""
        before = read()
        for pause in _PAUSES:
            found = list(rule(before))
            if not found:
                return
            self._table.clock.sleep(pause)
            now = read()
            if now == before:
                yield from found
                return
            before = now
        yield Finding(*key, "it was written whenever it was looked at", in_motion=True)

    # -- orders ----------------------------------------------------------------------------------------------------

    def _orders(self, tenant: str) -> Iterator[Finding]:
        for groups in _chunks(self._groups(tenant)):
            for case in self._cases(tenant, groups):
                if any(order_faults(case)):
                    yield from self._checked(case.key, partial(self._case, tenant, case.number), order_faults)

    def _groups(self, tenant: str) -> Iterator[tuple[str, list[Item]]]:
        """Yield the number of each order with its item and its ledger entries.

        All of these keys end in the order's number, or go on after it with a `#`, which comes before any digit.
        """
        prefixes = ("ORDER#", *(f"LEDGER#{kind}#" for kind in OF_ORDERS))
        streams = [self._numbered(tenant, prefix) for prefix in prefixes]
        merged = heapq.merge(*streams, key=itemgetter(0))
        for number, members in groupby(merged, key=itemgetter(0)):
            yield number, [item for _, item in members]

    def _numbered(self, tenant: str, prefix: str) -> Iterator[tuple[str, Item]]:
        for item in self._table.query(f"T#{tenant}", prefix):
            yield item["sk"].removeprefix(prefix).partition("#")[0], item

    def _cases(self, tenant: str, groups: Iterable[tuple[str, list[Item]]]) -> Iterator[Case]:
        items = {number: {item["sk"]: item for item in group} for number, group in groups}
        orders = {number: group.pop(f"ORDER#{number}", None) for number, group in items.items()}
        related = self._related(orders.values())
        for number, group in items.items():
            entries = {sk: item for sk, item in group.items() if sk.startswith("LEDGER#")}
            yield Case(tenant, number, orders[number], entries, related)

    def _case(self, tenant: str, number: str) -> Case:
        """Read one order and all that belongs to it."""
        pk, ledger = f"T#{tenant}", [f"LEDGER#{kind}#{number}" for kind in OF_ORDERS]
        several = [item for sk in ledger for item in self._table.query(pk, f"{sk}#")]
        single = self._table.get_many([(pk, f"ORDER#{number}"), *((pk, sk) for sk in ledger)])
        [case] = self._cases(tenant, [(number, [*single, *several])])
        return case

    def _related(self, items: Iterable[Item | None]) -> Mapping[Key, Item]:
        """Return what orders are tied to, and whom those bindings name that name somebody else."""
        orders = [order for order in map(order_of, items) if order is not None]
        found = self._found({key for order in orders for key in related_keys(order)})
        own = {order_key(order.tenant, order.id) for order in orders}
        others = {named_order(item) for key, item in found.items() if key[1].startswith("BOUND#")} - own
        return {**found, **self._found(others)}

    # -- bindings, claims, notes, wallets ----------------------------------------------------------------------------

    def _pointers(self, items: Iterable[Item], rule: Rule[Pointer]) -> Iterator[Finding]:
        for chunk in _chunks(items):
            orders = self._found({named_order(item) for item in chunk})
            for item in chunk:
                key = item["pk"], item["sk"]
                if any(rule(Pointer(key, item, orders.get(named_order(item))))):
                    yield from self._checked(key, partial(self._pointer, key), rule)

    def _pointer(self, key: Key) -> Pointer:
        item = self._table.get(*key)
        return Pointer(key, item, None if item is None else self._table.get(*named_order(item)))

    def _books(self, tenant: str) -> Books:
        """Add up a tenant's ledger, and read the wallet after it.

        When two readings have equally many entries, they have the same ones, for none is ever taken back; so none was
        written between them, where the wallet of the first was read.
        """
        entries = available = held = 0
        for entry in self._wallet.ledger(tenant):
            entries += 1
            moved = movement(entry)
            available, held = available + moved[0], held + moved[1]
        return Books(entries, available, held, self._wallet.balances(tenant))

    def _found(self, keys: Collection[Key]) -> dict[Key, Item]:
        return {(item["pk"], item["sk"]): item for item in self._table.get_many(list(keys))}


def _chunks(things: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(things)
    while chunk := list(islice(iterator, _AT_ONCE)):
        yield chunk
