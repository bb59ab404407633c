"""What must be true of the records of the tenants' money, and the sentence that says how it is not.

Pure functions of what `audit` has read, which also tells a broken rule from a record in motion. What `wallet` and
`orders` write is stated here a second time, on purpose: an audit that asked them what is right would agree with them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chalicelib import money
from chalicelib.aws.order_items import from_item
from chalicelib.aws.order_writes import binding_key, undecided_key
from chalicelib.aws.table import Item
from chalicelib.aws.wallet import Balances
from chalicelib.model import Funding, Order, OrderState, OrderStatus

CREDIT = "CREDIT"
REFUND = "REFUND"
OF_ORDERS = ("HOLD", "CAPTURE", "RELEASE", REFUND)
"""The kinds of ledger entries that belong to an order; a credit stands alone."""

Key = tuple[str, str]
Movement = tuple[int, int]
"""What a ledger entry adds to ``available`` and to ``held``, in micro-USD."""

_NOTHING: Movement = (0, 0)
_NOT_BOUGHT = frozenset({OrderState.REJECTED, OrderState.NOT_PLACED})
_UNTOLD = frozenset({OrderStatus.CANCELED, OrderStatus.PARTIAL})
"""Of an order that ended so a share may go back, and its panel may not tell which."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A record that is not what the others call for: its key, and in a sentence what is wrong, with figures in USD.

    ``in_motion`` means that nothing is known of it: it was written whenever it was looked at.
    """

    pk: str
    sk: str
    problem: str
    in_motion: bool = False

    def __str__(self) -> str:
        """Return it as the operator reads it."""
        return f"{self.pk} {self.sk}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Case:
    """An order, its ledger entries by sort key, and the records that it is tied to by theirs.

    ``number`` is its id as its key has it; ``item`` is None where only the rest is there.
    """

    tenant: str
    number: str
    item: Item | None
    entries: Mapping[str, Item]
    related: Mapping[Key, Item]

    @property
    def key(self) -> Key:
        """The key of the order."""
        return order_key(self.tenant, self.number)

    def moved(self, kind: str) -> Movement:
        """Return what its one entry of a kind moved."""
        return movement(self.entries.get(f"LEDGER#{kind}#{self.number}"))


@dataclass(frozen=True, slots=True)
class Pointer:
    """A record whose content is the name of an order: a binding, a claim, a note; None is what does not exist."""

    key: Key
    item: Item | None
    order: Item | None


@dataclass(frozen=True, slots=True)
class Books:
    """A tenant's ledger, counted and added up in micro-USD, and the wallet as it was read after it."""

    entries: int
    available: int
    held: int
    wallet: Balances


def order_key(tenant: str, number: object) -> Key:
    """Return the key of an order."""
    return f"T#{tenant}", f"ORDER#{number}"


def bound_key(order: Order) -> Key:
    """Return the key of the record that binds an order to its provider's."""
    return binding_key(order.account, order.provider_order or order.late_order)


def named_order(pointer: Item) -> Key:
    """Return the key of the order that a binding or a claim names; a claim names one of its own tenant."""
    pk = f"T#{pointer['tenant']}" if "tenant" in pointer else pointer["pk"]
    return pk, f"ORDER#{pointer.get('order')}"


def related_keys(order: Order) -> Iterator[Key]:
    """Yield the keys of the records that an order is tied to."""
    if _is_bound(order):
        yield bound_key(order)
    if _keeps_claim(order):
        yield f"T#{order.tenant}", f"CLAIM#{order.claim}"
    if order.refund_open:
        yield undecided_key(order)
    if order.parent is not None:
        yield order_key(order.tenant, order.parent)
    for child in order.children.values():
        yield order_key(order.tenant, child)
        yield f"T#{order.tenant}", f"LEDGER#CAPTURE#{child}"


def order_of(item: Item | None) -> Order | None:
    """Return the order that an item describes; None if there is none, or nothing that can be read."""
    try:
        return None if item is None else from_item(item)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return None


def movement(entry: Item | None) -> Movement:
    """Return what a ledger entry moves; a figure that is none moves nothing."""
    figures = [(entry or {}).get(name) for name in ("available", "held")]
    available, held = (figure if isinstance(figure, int) else 0 for figure in figures)
    return available, held


# -- an order ----------------------------------------------------------------------------------------------------------


def order_faults(case: Case) -> Iterator[Finding]:
    """Yield what is wrong with an order: its movements, refunds, binding, claim and kin."""
    order = order_of(case.item)
    if order is None:
        yield from _without_order(case)
    elif (order.tenant, str(order.id)) != (case.tenant, case.number):
        yield Finding(*case.key, f"it says that it is order {order.id} of {order.tenant}")
    else:
        yield from _movement_faults(case, order)
        yield from _refund_faults(case, order)
        yield from _decision_faults(case, order)
        yield from _subscription_faults(case, order)
        yield from _kin_faults(case, order)
        yield from _bound_faults(case, order)
        yield from _claimed_faults(case, order)


def _without_order(case: Case) -> Iterator[Finding]:
    moved = _listed({sk: movement(entry) for sk, entry in case.entries.items()})
    if case.item is not None:
        yield Finding(*case.key, "it cannot be read as an order")
    elif len(case.entries) == 1:
        yield Finding(case.key[0], next(iter(case.entries)), f"order {case.number} does not exist; found {moved}")
    elif case.entries:
        yield Finding(*case.key, f"the order does not exist; its ledger has {moved}")


def _movement_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Compare an order's entries, but for refunds, with what its state calls for.

    Together they leave exactly what it still holds: so a wallet that is the sum of its ledger holds what the tenant's
    open orders and live subscriptions hold. Where a single entry differs, that is the bad record; where more do, it is
    the order that contradicts them.
    """
    wanted = _wanted(case, order)
    found = {sk: movement(entry) for sk, entry in case.entries.items() if not _is_refund(sk)}
    off = sorted(sk for sk in wanted.keys() | found.keys() if wanted.get(sk) != found.get(sk))
    if len(off) == 1:
        figures = f"calls for {_figures(wanted.get(off[0]))}; found {_figures(found.get(off[0]))}"
        yield Finding(case.key[0], off[0], f"order {order.id}, which is {order.state}, {figures}")
    elif off:
        figures = f"calls for {_listed(wanted)}; its ledger has {_listed(found)}"
        yield Finding(*case.key, f"the order is {order.state}, which {figures}")


def _wanted(case: Case, order: Order) -> Mapping[str, Movement]:
    """Return the movements that an order's state calls for, by sort key; what moves nothing has no entry."""
    if order.funding is Funding.PROVIDER:
        return {}
    kinds = _of_child(case, order) if order.parent is not None else _of_state(case, order)
    return {f"LEDGER#{kind}#{order.id}": moved for kind, moved in kinds.items() if moved != _NOTHING}


def _of_state(case: Case, order: Order) -> Mapping[str, Movement]:
    charge = order.charge
    held: Mapping[str, Movement] = {"HOLD": (-charge, charge)}
    if order.state in _NOT_BOUGHT:
        return {**held, "RELEASE": (charge, -charge)}
    if OrderState.NOT_PLACED in {change.now for change in order.journal}:
        return {**held, "RELEASE": (charge, -charge), "CAPTURE": (-charge, 0)}
    if order.state is not OrderState.PLACED:
        return held
    if order.held is None:
        return {**held, "CAPTURE": (0, -charge)}
    return held if order.spent is None else {**held, "RELEASE": _settlement(case, order, order.spent)}


def _of_child(case: Case, order: Order) -> Mapping[str, Movement]:
    """Return what pays for a subscription's order: its charge, in any parts out of the hold and the wallet."""
    held = max(-order.charge, min(0, case.moved("CAPTURE")[1]))
    return {"CAPTURE": (-order.charge - held, held)}


def _settlement(case: Case, order: Order, spent: int) -> Movement:
    """Return the movement that ends a subscription; what is there, while one of its orders is wrong itself."""
    taken = _taken(case, order)
    if taken is None:
        return case.moved("RELEASE")
    left = order.charge - taken
    return left - spent, -left


def _taken(case: Case, order: Order) -> int | None:
    """Return what a subscription's orders took out of its hold, in micro-USD; None if one of them is wrong itself."""
    taken = 0
    for number in order.children.values():
        child = order_of(case.related.get(order_key(order.tenant, number)))
        available, held = movement(case.related.get((case.key[0], f"LEDGER#CAPTURE#{number}")))
        if child is None or available + held != -child.charge or max(available, held) > 0:
            return None
        taken -= held
    return taken


def _refund_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Compare an order's refunds with one another, with the order's ``refunded``, and that with its charge."""
    back = 0
    for after, sk in sorted((_after(sk), sk) for sk in case.entries if _is_refund(sk)):
        available, held = movement(case.entries[sk])
        back += available
        if back != after or available <= 0 or held:
            figures = f"{_usd(after)} have gone back after it by its key, {_usd(back)} by the entries"
            yield Finding(case.key[0], sk, f"{figures}; it moves {_figures((available, held))}")
            return
    due = order.refunded if order.funding is Funding.WALLET else 0
    if back != due:
        yield Finding(*case.key, f"{_usd(due)} went back by the order; its ledger has refunds of {_usd(back)}")
    most = order.charge if order.state is OrderState.PLACED and order.held is None else 0
    if not 0 <= order.refunded <= most:
        yield Finding(*case.key, f"{_usd(order.refunded)} went back by the order; at most {_usd(most)} can")


def _decision_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Look for the note of an order whose refund is open, and compare what was decided with what went back."""
    if order.refund_open:
        key, status = undecided_key(order), order.reading.status if order.reading else None
        if order.state is not OrderState.PLACED or order.held is not None or status not in _UNTOLD:
            yield Finding(*case.key, f"its refund is open, and it is {order.state} and {status or 'not read'}")
        elif (note := case.related.get(key)) is None or named_order(note) != case.key:
            named = "does not exist" if note is None else f"names order {_called(note)}"
            yield Finding(*key, f"it {named}, and the refund of order {order.id} of {order.tenant} is open")
    if order.refund_decided is not None and not 0 <= order.refund_decided <= order.refunded:
        figures = f"{_usd(order.refund_decided)} went back by decision, {_usd(order.refunded)} in all"
        yield Finding(*case.key, figures)


def _subscription_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Compare what a subscription holds with what its orders left of its charge."""
    if order.held is None or order.state is not OrderState.PLACED or order.funding is Funding.PROVIDER:
        return
    taken = _taken(case, order)
    if taken is None:
        return
    left = order.charge - taken
    wanted = left if order.spent is None else 0
    if order.held != wanted:
        yield Finding(*case.key, f"the subscription holds {_usd(order.held)}; its orders left {_usd(wanted)} of it")
    if order.spent is not None and not 0 <= order.spent <= left:
        yield Finding(*case.key, f"the subscription spent {_usd(order.spent)}; its orders left {_usd(left)} of it")


def _kin_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Compare what a subscription and its orders say of one another."""
    if order.parent is not None:
        parent = order_of(case.related.get(order_key(order.tenant, order.parent)))
        if parent is None or parent.children.get(order.provider_order or 0) != order.id:
            yield Finding(*case.key, f"it says that subscription {order.parent} made it, which does not list it")
    for number, ours in order.children.items():
        key = order_key(order.tenant, ours)
        child = order_of(case.related.get(key))
        if child is None:
            yield Finding(*key, f"subscription {order.id} lists this order, and it cannot be read")
        elif (child.parent, child.provider_order) != (order.id, number):
            made = f"of {child.parent} with the provider's number {child.provider_order}"
            yield Finding(*key, f"subscription {order.id} lists it as the provider's {number}; the order is one {made}")


def _bound_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Look for the binding of a placed order, which must name it."""
    if order.state is OrderState.PLACED and order.provider_order is None:
        yield Finding(*case.key, "the order is placed, and has no order at its provider")
    if not _is_bound(order):
        return
    key, placed = bound_key(order), f"order {order.id} of {order.tenant} is placed as {_at_provider(order)}"
    bound = case.related.get(key)
    if bound is None:
        yield Finding(*key, f"the record does not exist, and {placed}")
    elif named_order(bound) != case.key:
        owner, named = order_of(case.related.get(named_order(bound))), f"order {_called(bound)}"
        if owner is not None and _is_bound(owner) and bound_key(owner) == key:
            yield Finding(*case.key, f"{placed}, which belongs to {named}")
        else:
            yield Finding(*key, f"it names {named}, and {placed}")


def _claimed_faults(case: Case, order: Order) -> Iterator[Finding]:
    """Look for the idempotency key of an order, which must name it for as long as it does not free it."""
    if not _keeps_claim(order):
        return
    key = case.key[0], f"CLAIM#{order.claim}"
    claim = case.related.get(key)
    if claim is None or claim.get("order") != order.id:
        named = "does not exist" if claim is None else f"names order {claim.get('order')}"
        yield Finding(*key, f"it {named}, and holds the idempotency key of order {order.id}")


# -- what stands alone -------------------------------------------------------------------------------------------------


def entry_faults(entry: Item) -> Iterator[Finding]:
    """Yield what is wrong with a ledger entry by itself: its key, and a credit's figures."""
    kind, moved = str(entry.get("kind")).upper(), movement(entry)
    key = f"LEDGER#{kind}#{entry.get('id')}"
    if kind not in (*OF_ORDERS, CREDIT) or not f"{entry['sk']}#".startswith(f"{key}#"):
        yield Finding(entry["pk"], entry["sk"], f"it says that it is a {entry.get('kind')} of {entry.get('id')}")
    elif kind == CREDIT and (moved[0] <= 0 or moved[1]):
        yield Finding(entry["pk"], entry["sk"], f"a credit adds to what is available; found {_figures(moved)}")


def wallet_faults(tenant: str, books: Books) -> Iterator[Finding]:
    """Yield what is wrong with a wallet: it is the sum of its ledger, and never below zero."""
    wallet, ledger = (books.wallet.available, books.wallet.held), (books.available, books.held)
    if wallet != ledger:
        problem = f"its ledger adds up to {_figures(ledger)}; the wallet has {_figures(wallet)}"
        yield Finding(f"T#{tenant}", "WALLET", problem)
    if min(wallet) < 0:
        yield Finding(f"T#{tenant}", "WALLET", f"a wallet is never below zero; it has {_figures(wallet)}")


def binding_faults(bound: Pointer) -> Iterator[Finding]:
    """Yield what is wrong with a binding: it names the placed order that says the same of itself."""
    if bound.item is None:
        return
    order, named = order_of(bound.order), f"it names order {_called(bound.item)}"
    if order is None:
        yield Finding(*bound.key, f"{named}, which does not exist")
    elif not _is_bound(order):
        yield Finding(*bound.key, f"{named}, which is {order.state}")
    elif bound_key(order) != bound.key:
        yield Finding(*bound.key, f"{named}, which is placed as {_at_provider(order)}")


def note_faults(note: Pointer) -> Iterator[Finding]:
    """Yield what is wrong with a note that asks for a decision: it names the order whose refund is open."""
    if note.item is None:
        return
    order, named = order_of(note.order), f"it names order {_called(note.item)}"
    if order is None:
        yield Finding(*note.key, f"{named}, which does not exist")
    elif not order.refund_open or undecided_key(order) != note.key:
        yield Finding(*note.key, f"{named}, whose refund is not open here")


def claim_faults(claim: Pointer) -> Iterator[Finding]:
    """Yield what is wrong with a claim: it names the order that says that it holds it."""
    if claim.item is None:
        return
    order, named = order_of(claim.order), f"it names order {claim.item.get('order')}"
    if order is None:
        yield Finding(*claim.key, f"{named}, which does not exist")
    elif claim.key[1] != f"CLAIM#{order.claim}":
        yield Finding(*claim.key, f"{named}, which holds {'another' if order.claim else 'none'}")


# -- words and small questions -----------------------------------------------------------------------------------------


def _is_bound(order: Order) -> bool:
    """Whether an order has one at its provider; so has one that was given up and came late."""
    if order.state is OrderState.NOT_PLACED:
        return bool(order.late_order or order.provider_order)
    return order.state is OrderState.PLACED and order.provider_order is not None


def _keeps_claim(order: Order) -> bool:
    """Whether an order holds an idempotency key for good; a refusal that is no answer frees it, a window passes."""
    is_freed = order.state is OrderState.REJECTED and order.refusal is None
    return order.idempotency_key is not None and order.claim is not None and not is_freed


def _is_refund(sk: str) -> bool:
    return sk.startswith(f"LEDGER#{REFUND}#")


def _after(sk: str) -> int:
    """Return what a refund's key says has gone back when it is done, in micro-USD; -1 for a key that says nothing."""
    figure = sk.rpartition("#")[2]
    return int(figure) if figure.isdecimal() and sk.count("#") > 2 else -1  # noqa: PLR2004 - LEDGER#REFUND#id#figure


def _called(bound: Item) -> str:
    return f"{bound.get('order')} of {bound.get('tenant')}"


def _at_provider(order: Order) -> str:
    return f"{order.provider}'s {order.provider_order or order.late_order}"


def _usd(value: int) -> str:
    return f"{money.text(value)} USD"


def _figures(moved: Movement | None) -> str:
    return "no entry" if moved is None else f"{_usd(moved[0])} available and {_usd(moved[1])} held"


def _listed(movements: Mapping[str, Movement]) -> str:
    return ", ".join(f"{sk} with {_figures(moved)}" for sk, moved in sorted(movements.items())) or "no entry"
