"""The orders' journal in the table: who may move an order where, as conditions of transactions (design.md 4).

An order's purchase is moved by the holder of its attempt's token alone; the sweeper may only turn an overdue SENDING
into UNKNOWN. The money moves in the same transaction as the order, so that each movement happens once.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from chalicelib import money
from chalicelib.actions import Placed
from chalicelib.aws import wallet
from chalicelib.aws.accounts import partition
from chalicelib.aws.order_items import (
    attempt_item,
    audience_key,
    ended,
    from_item,
    live,
    search_item,
    sortable,
)
from chalicelib.aws.order_writes import (
    ATTEMPT_NAMES,
    MORE_EVIDENCE,
    binding,
    claim,
    creation,
    decided,
    evidence_values,
    link_claim,
    observation,
    observed,
    order_key,
    release_of_claim,
    settled,
    transition,
    undecided,
    unsettled,
)
from chalicelib.aws.table import ConditionFailed, Item, Table, TransactionRefused, Write
from chalicelib.errors import AlreadyBound, StoreBusy
from chalicelib.log import logger
from chalicelib.model import (
    Account,
    Attempt,
    Order,
    OrderState,
    Reading,
    Search,
    Source,
    random_id,
)
from chalicelib.ports import Acceptance, Accepted, Bound, Broke, Claimed, LinkTaken, OverAllowance, OverBudget

OPEN_ORDERS, ORDERS_BY_TIME, PAGES_ORDERS = "open-orders", "orders-by-time", "pages-orders"
# Drawing a free id out of 2^31 fails this often only if the tenant has used nearly all of them.
_DRAWS = 8
# Keys of an index are looked up so many at once.
_AT_ONCE = 100


class DynamoOrders:
    """Orders in the table; see ``ports.Orders``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    # -- accepting -------------------------------------------------------------------------------------------------

    def accept(self, order: Order, *, until: int) -> Acceptance:
        """Store a SENDING order, hold its money, count it and take its claims in one transaction."""
        over = None
        for _ in range(_DRAWS):
            guards = [*claim(order), *link_claim(order, over), *wallet.count(order)]
            writes = [creation(order), *guards, *wallet.hold(order), unsettled(order)]
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
        if "TOKEN" in met:
            return OverAllowance()
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
            *order_key(order),
            update="SET #attempt = :attempt, earlier_keys = list_append(if_not_exists(earlier_keys, :none), :key)"
            " ADD attempts :one",
            condition="#attempt.#token = :token AND #state = :sending",
            names=ATTEMPT_NAMES,
            values={
                ":attempt": attempt_item(attempt),
                ":none": [],
                ":key": [order.attempt.key_version],
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

    def place(
        self,
        order: Order,
        placed: Placed,
        *,
        until: int,
        source: Source = Source.REQUEST,
        evidence: str | None = None,
    ) -> bool:
        """Record the purchase and spend the held money; False if the order is no longer this attempt's.

        An order that proved not to be placed keeps that, and the late purchase is noted on it.
        """
        order = replace(order, updated=self._table.clock.now())
        facts = {
            "provider_order": placed.order,
            "provider_charge": None if placed.charge is None else str(placed.charge),
            "key_version": order.attempt.key_version,
        }
        move = transition(order, OrderState.PLACED, facts, source=source, evidence=evidence)
        # A subscription spends its hold order by order; see `adopt`.
        spent = wallet.capture(order) if order.held is None else []
        try:
            self._table.transact([move, binding(order, placed.order), *spent, settled(order)], until=until)
        except TransactionRefused as refused:
            bound = refused.failed.get(1)
            if bound is not None and (bound["tenant"], bound["order"]) != order.name:
                raise AlreadyBound(f"{order.provider} {placed.order}") from None
            if _is(refused.failed.get(0), order, OrderState.NOT_PLACED):
                self._note_late(order, placed.order, until=until)
            return _is_placed(refused.failed.get(0), order, placed.order)
        return True

    def _note_late(self, order: Order, provider_order: int, *, until: int) -> None:
        """Keep on a NOT_PLACED order that its provider delivered it all the same: the operator decides who pays."""
        logger.error("delivered late", extra={"facts": {**order.facts, "provider_order": provider_order}})
        write = Write(
            *order_key(order),
            update=f"SET late_order = :late, {MORE_EVIDENCE}",
            condition="#state = :not_placed AND attribute_not_exists(late_order)",
            names={"#state": "state"},
            values={
                ":late": provider_order,
                ":not_placed": OrderState.NOT_PLACED.value,
                **evidence_values(f"the provider delivered it late, as its order {provider_order}"),
            },
        )
        with contextlib.suppress(TransactionRefused):  # noted before, or resolved
            self._table.transact([write, binding(order, provider_order), unsettled(order)], until=until)

    def reject(self, order: Order, refusal: Mapping[str, str] | None, *, until: int) -> bool:
        """Record that nothing was bought and give the money back; without a ``refusal`` the claim is freed too.

        An order that was called UNKNOWN meanwhile has been told of: it ends as NOT_PLACED and keeps its claim.
        """
        order = replace(order, updated=self._table.clock.now())
        facts = {"refusal": dict(refusal) if refusal else None, "key_version": order.attempt.key_version}
        move = transition(order, OrderState.REJECTED, facts, source=Source.REQUEST)
        writes = [move, *wallet.release(order), settled(order)]
        freed = release_of_claim(order) if refusal is None else []
        try:
            self._table.transact([*writes, *freed], until=until)
        except TransactionRefused as refused:
            self._table.clock.require(until)
            if set(refused.failed) == {len(writes)}:  # a younger order has the claim now, and keeps it
                return self.reject(replace(order, claim=None), refusal, until=until)
            if _is(refused.failed.get(0), order, OrderState.UNKNOWN):
                self.give_up(order, "its sender knows that nothing was bought", until=until, source=Source.REQUEST)
            return _is(refused.failed.get(0), order, OrderState.REJECTED)
        return True

    def lose(
        self,
        order: Order,
        evidence: str,
        *,
        until: int,
        source: Source = Source.REQUEST,
        provider_order: int | None = None,
    ) -> bool:
        """Record that the outcome is not known (SENDING to UNKNOWN)."""
        facts = {
            "pending": True,
            "pending_order": provider_order,
            "key_version": order.attempt.key_version or None,
        }
        order = replace(order, updated=self._table.clock.now())
        try:
            self._table.write(
                transition(order, OrderState.UNKNOWN, facts, source=source, evidence=evidence), until=until
            )
        except ConditionFailed as failure:
            return _is(failure.old, order, OrderState.UNKNOWN)
        return True

    # -- settling --------------------------------------------------------------------------------------------------

    def give_up(self, order: Order, evidence: str, *, until: int, source: Source) -> bool:
        """Record that an UNKNOWN order was never placed, and give its money back; False if it is settled otherwise."""
        order = replace(order, updated=self._table.clock.now())
        move = transition(order, OrderState.NOT_PLACED, {}, source=source, evidence=evidence)
        try:
            self._table.transact([move, *wallet.release(order), settled(order)], until=until)
        except TransactionRefused as refused:
            return _is(refused.failed.get(0), order, OrderState.NOT_PLACED)
        return True

    def restore(self, order: Order, provider_order: int, *, until: int) -> bool:
        """Record that a NOT_PLACED order was placed after all, and charge it anew; False if that cannot be.

        The wallet must hold the charge, and the provider's order must not be another order's. A subscription cannot
        hold its money a second time.
        """
        if order.held is not None:
            return False
        order = replace(order, updated=self._table.clock.now())
        facts = {"provider_order": provider_order}
        evidence = f"the operator found it as the provider's order {provider_order}, and it is charged after all"
        move = transition(order, OrderState.PLACED, facts, source=Source.OPERATOR, evidence=evidence, again=True)
        bound = replace(
            binding(order, provider_order),
            condition="attribute_not_exists(pk) OR (tenant = :tenant AND #order = :order)",
            names={"#order": "order"},
            values={":tenant": order.tenant, ":order": order.id},
        )
        try:
            self._table.transact([move, bound, *wallet.charge_again(order), settled(order)], until=until)
        except TransactionRefused as refused:
            return _is_placed(refused.failed.get(0), order, provider_order)
        return True

    def accept_loss(self, order: Order, *, until: int) -> bool:
        """Leave a NOT_PLACED order that was delivered late as it is, bound: the operator bears it."""
        write = Write(
            *order_key(order),
            update=f"SET provider_order = :late, {MORE_EVIDENCE} REMOVE late_order",
            condition="#state = :not_placed AND late_order = :late",
            names={"#state": "state"},
            values={
                ":not_placed": OrderState.NOT_PLACED.value,
                ":late": order.late_order,
                **evidence_values(f"the operator bears the provider's order {order.late_order}"),
            },
        )
        try:
            self._table.transact([write, settled(order)], until=until)
        except TransactionRefused as refused:
            stored = refused.failed.get(0)
            return stored is not None and "late_order" not in stored
        return True

    def decide_refund(self, order: Order, amount: int, *, until: int) -> bool:
        """Give back what the operator decided for an order whose panel does not tell; False if it changed meanwhile.

        Args:
            order: as the operator has seen it.
            amount: micro-USD that go back now, at most what is left of its charge.
            until: when to give up.
        """
        refunded = order.refunded + amount
        write = Write(
            *order_key(order),
            update=f"SET refunded = :refunded, refund_decided = :amount, {MORE_EVIDENCE} REMOVE refund_open",
            condition="refund_open = :open AND refunded = :before",
            values={
                ":refunded": refunded,
                ":amount": amount,
                ":open": True,
                ":before": order.refunded,
                **evidence_values(f"the operator gave back {money.text(amount)} USD"),
            },
        )
        moved = wallet.refund(replace(order, updated=self._table.clock.now()), refunded)
        try:
            self._table.transact([write, *moved, decided(order)], until=until)
        except TransactionRefused as refused:
            stored = refused.failed.get(0)
            return stored is not None and "refund_open" not in stored and stored.get("refund_decided") == amount
        return True

    def look(self, order: Order, search: Search, evidence: Sequence[str], *, until: int) -> None:
        """Keep how far the settlement of an UNKNOWN order has come, and what it found out."""
        update = "SET #search = :search"
        values: Item = {":search": search_item(search), ":unknown": OrderState.UNKNOWN.value}
        if evidence:
            update += f", {MORE_EVIDENCE}"
            values |= evidence_values(*evidence)
        names = {"#search": "search", "#state": "state"}
        condition = "#state = :unknown"
        if order.search is None:
            condition += " AND attribute_not_exists(#search)"
        else:
            condition += " AND #search.#looks = :looks"
            names["#looks"], values[":looks"] = "looks", order.search.looks
        write = Write(*order_key(order), update=update, condition=condition, names=names, values=values)
        with contextlib.suppress(ConditionFailed):  # settled meanwhile, or another settlement has looked
            self._table.write(write, until=until)

    def unsettled(self, account: Account) -> Iterator[Order]:
        """Yield an account's orders whose purchase is not known, oldest first; none is missing."""
        yield from self._named(account, "OPEN#")

    def undecided(self, account: Account) -> Iterator[Order]:
        """Yield an account's orders that have ended without a word of what goes back, oldest first; none is missing."""
        yield from self._named(account, "REFUND#")

    def _named(self, account: Account, prefix: str) -> Iterator[Order]:
        names = self._table.query(partition(account), prefix)
        while some := list(islice(names, _AT_ONCE)):
            items = self._table.get_many([(f"T#{name['tenant']}", f"ORDER#{name['order']}") for name in some])
            yield from sorted(map(from_item, items), key=lambda order: order.created)

    def bound(self, account: Account) -> Iterator[Bound]:
        """Yield an account's orders that are ours, highest number first; none is missing."""
        for item in self._table.query(partition(account), "BOUND#", newest=True, page=_AT_ONCE):
            number = int(item["sk"].removeprefix("BOUND#"))
            yield Bound(number, item["tenant"], item["order"], item["sent"], item["at"])

    # -- following -------------------------------------------------------------------------------------------------

    def open(self, account: Account, *, before: int | None = None) -> Iterator[Order]:
        """Yield an account's placed orders that have not ended, those that are due by a time or all; some may lag."""
        yield from self._due(live(account), before)

    def ended(self, account: Account, *, before: int) -> Iterator[Order]:
        """Yield an account's orders that have ended and are to be looked at again before a time; some may lag."""
        yield from self._due(ended(account), before)

    def _due(self, kind: str, before: int | None) -> Iterator[Order]:
        condition, values = "#open = :open", Item({":open": kind})
        if before is not None:
            condition += " AND due <= :before"
            values[":before"] = before
        keys = self._table.query_index(OPEN_ORDERS, condition, values, names={"#open": "open"})
        while some := list(islice(keys, _AT_ONCE)):
            items = self._table.get_many([(key["pk"], key["sk"]) for key in some])
            due = [one for one in items if one.get("open") == kind and (before is None or one["due"] <= before)]
            yield from map(from_item, sorted(due, key=lambda item: int(item["due"])))

    def postpone(self, order: Order, due: int | None, *, until: int) -> None:
        """Set when an order that may still change is looked at next; None: never again."""
        write = Write(
            *order_key(order),
            update="REMOVE #open, due" if due is None else "SET due = :due",
            # One that was opened again meanwhile stays.
            condition="#open = :ended" if due is None else "attribute_exists(#open)",
            names={"#open": "open"},
            values={":ended": ended(order.account)} if due is None else {":due": due},
        )
        with contextlib.suppress(ConditionFailed):  # it has ended
            self._table.write(write, until=until)

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
            *order_key(parent),
            update="SET #children.#number = :child, #held = :left",
            condition="#held = :held AND attribute_not_exists(#children.#number)",
            names={"#children": "children", "#number": number, "#held": "held"},
            values={":child": child.id, ":held": held, ":left": left},
        )
        bound, made = binding(child, child.provider_order), creation(child)
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
            *order_key(parent),
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

    def page(
        self,
        tenant: str,
        *,
        audience: str | None = None,
        since: int | None = None,
        before: tuple[int, int] | None = None,
    ) -> Iterator[Order]:
        """Yield a tenant's orders, newest first; see ``ports.Orders``."""
        index, name, owner = ORDERS_BY_TIME, "owner", tenant
        if audience is not None:
            index, name, owner = PAGES_ORDERS, "audience", audience_key(tenant, audience)
        condition = "#owner = :owner"
        values: Item = {":owner": owner}
        if since is not None:
            condition += " AND created >= :since"
            values[":since"] = sortable(since)
        start = None
        if before is not None:
            created, order = before
            if since is not None and created < since:
                return  # the page before ended beyond what is asked for now
            start = {"pk": f"T#{tenant}", "sk": f"ORDER#{order}", name: owner, "created": sortable(created)}
        items = self._table.query_index(index, condition, values, names={"#owner": name}, newest=True, start=start)
        yield from (from_item(item) for item in items)

    def observe(self, order: Order, reading: Reading, *, refunded: int | None, until: int) -> Order:
        """Keep a status reading if it is newer than the stored one, and give back what it makes due, once.

        An end that does not tell what goes back is noted for the operator; a later reading that tells it ends the note.
        """
        seen = observed(order, reading, refunded)
        write = observation(order, reading, seen)
        moved = wallet.refund(replace(order, updated=reading.at), seen.refunded)
        if seen.refund_open is not order.refund_open:
            moved.append(undecided(order) if seen.refund_open else decided(order))
        try:
            self._table.transact([write, *moved], until=until) if moved else self._table.write(write, until=until)
        except (ConditionFailed, TransactionRefused) as refused:
            stored = refused.old if isinstance(refused, ConditionFailed) else refused.failed.get(0)
            return from_item(stored) if stored else order  # a neighbour has read later than we did, or it was we
        if len(seen.evidence) > len(order.evidence):
            logger.error("a refund cannot be computed", extra={"facts": {**order.facts, "status": reading.status}})
        return seen


def _is_placed(item: Item | None, order: Order, provider_order: int) -> bool:
    """Say whether an item is this attempt's order, placed under this very number of its provider."""
    return item is not None and _is(item, order, OrderState.PLACED) and item["provider_order"] == provider_order


def _is(item: Item | None, order: Order, state: OrderState) -> bool:
    """Say whether an item is this attempt's order, in this state: a refused write may have met its own earlier try."""
    return item is not None and item["attempt"]["token"] == order.attempt.token and item["state"] == state
