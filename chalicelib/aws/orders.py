"""The orders' journal in the table: who may move an order where, as conditions of transactions (design.md 4).

An order's purchase is moved by the holder of its attempt's token alone; the sweeper may only turn an overdue SENDING
into UNKNOWN. The money moves in the same transaction as the order, so that each movement happens once.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.actions import Placed
from chalicelib.aws import wallet
from chalicelib.aws.order_items import attempt_item, from_item, reading_item, sortable, to_item
from chalicelib.aws.table import ConditionFailed, Item, Table, TransactionRefused, Write
from chalicelib.errors import AlreadyBound, StoreBusy
from chalicelib.model import FINAL, Attempt, Order, OrderState, Reading, random_id
from chalicelib.ports import Acceptance, Accepted, Broke, Claimed, LinkTaken, OverBudget

OPEN_ORDERS, ORDERS_BY_TIME = "open-orders", "orders-by-time"
# Drawing a free id out of 2^31 fails this often only if the tenant has used nearly all of them.
_DRAWS = 8
# Clocks of containers differ by less than this, in µs.
_SKEW = 300_000_000
_NAMES = {"#attempt": "attempt", "#token": "token", "#state": "state"}


class DynamoOrders:
    """Orders in the table; see ``ports.Orders``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    # -- accepting -------------------------------------------------------------------------------------------------

    def accept(self, order: Order, *, until: int) -> Acceptance:
        """Store a SENDING order, hold its money, count it on its day and take its claims in one transaction."""
        over = None
        for _ in range(_DRAWS):
            guards = [*_claim(order), *_link_claim(order, over), *wallet.count(order)]
            writes = [_new(order), *guards, *wallet.hold(order)]
            try:
                self._table.transact(writes, until=until)
            except TransactionRefused as refused:
                met = {writes[at].sk.partition("#")[0]: item for at, item in refused.failed.items()}
                taken = met.get("ORDER")
                if taken is not None and taken["attempt"]["token"] == order.attempt.token:
                    return Accepted(order)  # our own write, whose reply was lost
                if "ORDER" in met:
                    order = replace(order, id=random_id())
                    continue
                answer = self._not_accepted(order, met)
                if not isinstance(answer, Order):
                    return answer
                over = answer
            else:
                return Accepted(order)
        raise StoreBusy("no free order id was found, or its link kept changing hands")

    def _not_accepted(self, order: Order, met: Mapping[str, Item | None]) -> Acceptance | Order:
        """Say what stood against an order, by the kinds of items whose conditions failed, or whose link is free now.

        A claim comes first, for its answer was given before; then what a tenant with more money would be told too.
        """
        if "CLAIM" in met:
            first = self._holder(order, met["CLAIM"])
            if first is None:
                raise StoreBusy("a claim without its order")
            return Claimed(first)
        if "LINK" in met:
            holder = self._holder(order, met["LINK"])
            # An order that is not to be seen is just being stored.
            return holder if holder is not None and holder.is_over else LinkTaken()
        return OverBudget() if "SPEND" in met else Broke()

    def _holder(self, order: Order, claim: Item | None) -> Order | None:
        return self.get(order.tenant, claim["order"]) if claim else None

    def claimed(self, tenant: str, claim: str) -> Order | None:
        """Return the order that holds a claim."""
        item = self._table.get(f"T#{tenant}", f"CLAIM#{claim}")
        return None if item is None else self.get(tenant, item["order"])

    # -- the attempt's holder --------------------------------------------------------------------------------------

    def reattempt(self, order: Order, attempt: Attempt, *, until: int) -> Order | None:
        """Replace a SENDING order's attempt, if it is still ours to send."""
        write = Write(
            *_key(order),
            update="SET #attempt = :attempt ADD attempts :one",
            condition="#attempt.#token = :token AND #state = :sending",
            names=_NAMES,
            values={
                ":attempt": attempt_item(attempt),
                ":one": 1,
                ":token": order.attempt.token,
                ":sending": OrderState.SENDING.value,
            },
        )
        try:
            return from_item(self._table.write(write, until=until))
        except ConditionFailed as failure:
            ours = failure.old is not None and failure.old["attempt"]["token"] == attempt.token
            return from_item(failure.old) if ours and failure.old else None

    def place(self, order: Order, placed: Placed, *, until: int) -> bool:
        """Record the purchase and spend the held money; False if the order is no longer this attempt's."""
        order = replace(order, updated=self._table.clock.now())
        move = _move(
            order,
            OrderState.PLACED,
            {
                "provider_order": placed.order,
                "provider_charge": None if placed.charge is None else str(placed.charge),
                "key_version": order.attempt.key_version,
            },
        )
        # A subscription spends its hold order by order; see `adopt`.
        spent = wallet.capture(order) if order.held is None else []
        try:
            self._table.transact([move, _binding(order, placed.order), *spent], until=until)
        except TransactionRefused as refused:
            bound = refused.failed.get(1)
            if bound is not None and (bound["tenant"], bound["order"]) != (order.tenant, order.id):
                raise AlreadyBound(f"{order.provider} {placed.order}") from None
            return _is(refused.failed.get(0), order, OrderState.PLACED)
        return True

    def reject(self, order: Order, refusal: Mapping[str, str] | None, *, until: int) -> bool:
        """Record that nothing was bought and give the money back; without a ``refusal`` the claim is freed too.

        An order that was called UNKNOWN meanwhile has been told of: it ends as NOT_PLACED and keeps its claim.
        """
        order = replace(order, updated=self._table.clock.now())
        facts = {"refusal": dict(refusal) if refusal else None, "key_version": order.attempt.key_version}
        writes = [_move(order, OrderState.REJECTED, facts, sources=[OrderState.SENDING]), *wallet.release(order)]
        freed = _freed(order) if refusal is None else []
        try:
            self._table.transact([*writes, *freed], until=until)
        except TransactionRefused as refused:
            self._table.clock.require(until)
            if set(refused.failed) == {len(writes)}:  # a younger order has the claim now, and keeps it
                return self.reject(replace(order, claim=None), refusal, until=until)
            if _is(refused.failed.get(0), order, OrderState.UNKNOWN):
                self._end_unknown(order, facts, until=until)
            return _is(refused.failed.get(0), order, OrderState.REJECTED)
        return True

    def _end_unknown(self, order: Order, facts: Mapping[str, Any], *, until: int) -> None:
        """Give the money of an UNKNOWN order back, of which its sender knows that nothing was bought."""
        move = _move(order, OrderState.NOT_PLACED, facts, sources=[OrderState.UNKNOWN])
        with contextlib.suppress(TransactionRefused):  # somebody has settled it
            self._table.transact([move, *wallet.release(order)], until=until)

    def lose(self, order: Order, evidence: str, *, until: int, provider_order: int | None = None) -> bool:
        """Record that the outcome is not known (SENDING to UNKNOWN)."""
        facts = {
            "pending": True,
            "evidence": [*order.evidence, evidence],
            "pending_order": provider_order,
            "key_version": order.attempt.key_version or None,
        }
        order = replace(order, updated=self._table.clock.now())
        move = _move(order, OrderState.UNKNOWN, facts, sources=[OrderState.SENDING])
        try:
            self._table.write(move, until=until)
        except ConditionFailed as failure:
            return _is(failure.old, order, OrderState.UNKNOWN)
        return True

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def adopt(self, parent: Order, child: Order, *, until: int) -> Order | None:
        """Store an order that a subscription made at its provider and charge it; return the subscription then.

        The charge comes out of the subscription's hold as far as that lasts, and out of the wallet beyond it. None if
        the wallet does not hold it.

        Raises:
            AlreadyBound: the provider's order is another order's.
        """
        held = parent.held or 0
        left = held - min(child.charge, held)
        number = str(child.provider_order)
        write = Write(
            *_key(parent),
            update="SET #children.#number = :child, #held = :left",
            condition="#held = :held AND attribute_not_exists(#children.#number)",
            names={"#children": "children", "#number": number, "#held": "held"},
            values={":child": child.id, ":held": held, ":left": left},
        )
        bound, made = _binding(child, child.provider_order), _new(child)
        writes = [write, made, bound, *wallet.spend(child, held=held - left)]
        try:
            self._table.transact(writes, until=until)
        except TransactionRefused as refused:
            stored = refused.failed.get(0)
            if stored is not None:
                return from_item(stored)  # a neighbour was faster, or our own write, whose reply was lost
            if writes.index(bound) in refused.failed:
                raise AlreadyBound(f"{child.provider} {child.provider_order}") from None
            if writes.index(made) in refused.failed:
                raise StoreBusy("no free order id was found") from None
            return None
        return replace(parent, held=left, children={**parent.children, int(number): child.id})

    def end_subscription(self, parent: Order, *, spent: int, until: int) -> Order:
        """Spend ``spent`` micro-USD of what a subscription still holds, and give the rest back, once.

        Return the subscription as it is then; it has not ended if a neighbour has just taken in another order.
        """
        write = Write(
            *_key(parent),
            update="SET #held = :nothing, spent = :spent",
            condition="#held = :held AND attribute_not_exists(spent)",
            names={"#held": "held"},
            values={":held": parent.held, ":nothing": 0, ":spent": spent},
        )
        parent = replace(parent, updated=self._table.clock.now())
        try:
            self._table.transact([write, *wallet.settle(parent, spent=spent)], until=until)
        except TransactionRefused as refused:
            stored = refused.failed.get(0)
            return parent if stored is None else from_item(stored)
        return replace(parent, held=0, spent=spent)

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, tenant: str, order: int) -> Order | None:
        """Return an order of a tenant."""
        item = self._table.get(f"T#{tenant}", f"ORDER#{order}")
        return None if item is None else from_item(item)

    def get_many(self, tenant: str, orders: Iterable[int]) -> Mapping[int, Order]:
        """Return those of the orders that the tenant has, by id."""
        items = self._table.get_many([(f"T#{tenant}", f"ORDER#{order}") for order in orders])
        return {item["id"]: from_item(item) for item in items}

    def page(self, tenant: str, *, since: int | None = None, before: tuple[int, int] | None = None) -> Iterator[Order]:
        """Yield a tenant's orders, newest first; see ``ports.Orders``."""
        condition = "#owner = :owner"
        values: Item = {":owner": tenant}
        if since is not None:
            condition += " AND created >= :since"
            values[":since"] = sortable(since)
        start = None
        if before is not None:
            created, order = before
            if since is not None and created < since:
                return  # the page before ended beyond what is asked for now
            start = {"pk": f"T#{tenant}", "sk": f"ORDER#{order}", "owner": tenant, "created": sortable(created)}
        items = self._table.query_index(
            ORDERS_BY_TIME, condition, values, names={"#owner": "owner"}, newest=True, start=start
        )
        yield from (from_item(item) for item in items)

    def observe(self, order: Order, reading: Reading, *, refunded: int, until: int) -> Order:
        """Keep a status reading if it is newer than the stored one, and give back what it makes due, once.

        A final reading is newer than any that is not, whatever the clocks say, and the first one stands.
        """
        names = {"#reading": "reading", "#status": "status"}
        final = {f":final{n}": status.value for n, status in enumerate(sorted(FINAL))}
        newer = f"NOT #reading.#status IN ({', '.join(final)})"
        values: Item = {":reading": reading_item(reading), ":refunded": refunded, ":before": order.refunded, **final}
        if reading.status not in FINAL:
            # A reading of a clock that is far ahead must not stand until ours has come so far.
            newer += " AND (#reading.#at < :at OR #reading.#at > :ahead)"
            names["#at"] = "at"
            values |= {":at": reading.at, ":ahead": reading.at + _SKEW}
        write = Write(
            *_key(order),
            update="SET #reading = :reading, refunded = :refunded",
            condition=f"attribute_exists(pk) AND (attribute_not_exists(#reading) OR {newer})"
            " AND (attribute_not_exists(refunded) OR refunded = :before)",
            names=names,
            values=values,
        )
        money = wallet.refund(replace(order, updated=reading.at), refunded)
        try:
            self._table.transact([write, *money], until=until) if money else self._table.write(write, until=until)
        except (ConditionFailed, TransactionRefused) as refused:
            stored = refused.old if isinstance(refused, ConditionFailed) else refused.failed.get(0)
            return from_item(stored) if stored else order  # a neighbour has read later than we did, or it was we
        return replace(order, reading=reading, refunded=refunded)

    def overdue(self, before: int) -> Iterator[Order]:
        """Yield the SENDING orders whose ``send_by`` is before a time; the index may lag, the orders do not."""
        values = {":open": OrderState.SENDING.value, ":before": before}
        for key in self._table.query_index(
            OPEN_ORDERS, "#open = :open AND due < :before", values, names={"#open": "open"}
        ):
            item = self._table.get(key["pk"], key["sk"])
            if item is not None and item["state"] == OrderState.SENDING and item["due"] < before:
                yield from_item(item)


def _key(order: Order) -> tuple[str, str]:
    return f"T#{order.tenant}", f"ORDER#{order.id}"


def _new(order: Order) -> Write:
    return Write(*_key(order), put=to_item(order), condition="attribute_not_exists(pk)")


def _claim(order: Order) -> list[Write]:
    if order.claim is None:
        return []
    condition, values = "attribute_not_exists(pk)", {}
    if order.claim_window is not None:
        condition, values = "attribute_not_exists(pk) OR #at < :since", {":since": order.created - order.claim_window}
    return [
        Write(
            f"T#{order.tenant}",
            f"CLAIM#{order.claim}",
            put={"order": order.id, "at": order.created},
            condition=condition,
            names={"#at": "at"} if values else {},
            values=values,
        )
    ]


def _link_claim(order: Order, over: Order | None) -> list[Write]:
    """Return the write by which this is the one order on its link, which nobody has or one that is ``over``."""
    if order.link_claim is None:
        return []
    condition, values = "attribute_not_exists(pk)", {}
    if over is not None:
        condition, values = "attribute_not_exists(pk) OR #order = :over", {":over": over.id}
    return [
        Write(
            f"T#{order.tenant}",
            f"LINK#{order.link_claim}",
            put={"order": order.id},
            condition=condition,
            names={"#order": "order"} if values else {},
            values=values,
        )
    ]


def _binding(order: Order, provider_order: int | None) -> Write:
    """Return the write by which a provider's order belongs to this order alone."""
    return Write(
        f"P#{order.provider}",
        f"BOUND#{provider_order}",
        put={"tenant": order.tenant, "order": order.id},
        condition="attribute_not_exists(pk)",
    )


def _freed(order: Order) -> list[Write]:
    if order.claim is None:
        return []
    return [
        Write(
            f"T#{order.tenant}",
            f"CLAIM#{order.claim}",
            condition="attribute_not_exists(pk) OR #order = :order",
            names={"#order": "order"},
            values={":order": order.id},
        )
    ]


def _move(
    order: Order,
    state: OrderState,
    facts: Mapping[str, Any],
    *,
    sources: Sequence[OrderState] = (OrderState.SENDING, OrderState.UNKNOWN),
) -> Write:
    """Return the write by which the attempt's holder moves an order on, out of one of the states ``sources``."""
    given = {name: value for name, value in facts.items() if value is not None}
    is_open = state is OrderState.UNKNOWN
    assignments = ["#state = :state", "updated = :updated", *(f"#f_{name} = :f_{name}" for name in given)]
    assignments += ["#open = :state"] if is_open else []
    values = {
        ":state": state.value,
        ":updated": order.updated,
        ":token": order.attempt.token,
        **{f":f_{name}": value for name, value in given.items()},
    }
    values |= {f":{source.value}": source.value for source in sources}
    return Write(
        *_key(order),
        update="SET " + ", ".join(assignments) + ("" if is_open else " REMOVE #open, due"),
        condition=f"#attempt.#token = :token AND #state IN ({', '.join(f':{source.value}' for source in sources)})",
        names={**_NAMES, "#open": "open", **{f"#f_{name}": name for name in given}},
        values=values,
    )


def _is(item: Item | None, order: Order, state: OrderState) -> bool:
    """Say whether an item is this attempt's order, in this state: a refused write may have met its own earlier try."""
    return item is not None and item["attempt"]["token"] == order.attempt.token and item["state"] == state
