"""The judge of all proofs: what the panels sold is the truth to which the records, money and words are held."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chalicelib import money
from chalicelib.aws.audit import findings
from chalicelib.errors import Code, Refusal, StoreBusy
from chalicelib.gateway import Result
from chalicelib.jobs import needing_decision
from chalicelib.model import Account, Order, OrderState
from chalicelib.purchase import Receipt
from chalicelib.wiring import Parts
from sandbox.orders import Order as Sold
from tests.faults import Killed
from tests.market import Market
from tests.stage import allowances, days
from tests.world import LINK

KILLED = "nothing"
PENDING = "pending"


@dataclass
class Verdict:
    """What is wrong, in words, and the micro-USD that are missing or too many."""

    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    difference: int = 0
    late: list[str] = field(default_factory=list)
    """Given up, bought after all and noted for the operator: no promise is broken where a request arrives that late."""

    @property
    def broken(self) -> set[str]:
        """Return what of this there is."""
        return {name for name in ("doubled", "lost", "wrong", "difference") if getattr(self, name)}

    @property
    def is_good(self) -> bool:
        return not self.broken


def answer(add: Callable[[], Result]) -> str:
    """Return what a caller is told who buys: the order's id, that it is pending, the code of a refusal, or nothing."""
    try:
        receipt = add()
    except Killed:
        return KILLED
    except Refusal as refusal:
        return refusal.code
    except StoreBusy:
        return Code.SERVICE_UNAVAILABLE
    assert isinstance(receipt, Receipt)
    return PENDING if receipt.pending else f"order {receipt.order}"


def name_of(order: Order) -> str:
    """Return under which name something was bought; it ends the link, and there is one key for each."""
    return (order.link or "").removeprefix(f"{LINK}/")


def sold(market: Market) -> dict[str, list[Sold]]:
    """Return what the panels sold, by the name under which it was bought."""
    found: dict[str, list[Sold]] = {}
    for slug in market.network.panels:
        market.panel(slug).funds()
        for one in market.bought(slug):
            found.setdefault(one.link.removeprefix(f"{LINK}/"), []).append(one)
    return found


def judge(
    market: Market, credit: Mapping[str, int], told: Mapping[str, Sequence[str]], *, at_rest: bool = True
) -> Verdict:
    """Compare what the gateway says with what the panels sold.

    Args:
        market: whose panels sold nothing but what was bought through the gateway.
        credit: the tenants that bought, and what each began with, in micro-USD.
        told: what was answered to each `add` of a name, in turn.
        at_rest: nothing is to come any more, and every end was seen.
    """
    parts, bought = market.parts, sold(market)
    orders = [order for tenant in credit for order in parts.orders.page(tenant)]
    standing = [order for order in orders if order.state is not OrderState.REJECTED]
    counts = Counter(map(name_of, standing))
    verdict = Verdict(doubled=[one for one, some in bought.items() if len(some) > 1])
    verdict.wrong += [f"{count} orders under the key {one}" for one, count in counts.items() if count > 1]
    for order in orders:
        verdict.wrong += _faults(order, bought.get(name_of(order), []))
    for tenant, begun in credit.items():
        own = [order for order in orders if order.tenant == tenant]
        verdict.wrong += _counters(parts, tenant)
        verdict.difference += _difference(market, tenant, begun, own)
    if at_rest:
        verdict.lost += [f"{one}: no order" for one in bought if not counts[one]]
        for order in orders:
            _judge_end(parts, order, bought.get(name_of(order), []), verdict)
        verdict.wrong += _left(market, orders)
        verdict.wrong += _words(told, {name_of(order): order for order in standing}, bought)
        verdict.wrong += map(str, findings(parts.table))
    return verdict


def _faults(order: Order, bought: list[Sold]) -> Iterator[str]:
    if order.state is OrderState.PLACED and order.provider_order not in {one.id for one in bought}:
        yield f"{name_of(order)}: bound to {order.provider_order}, which is not it: {order.evidence}"
    if order.state is OrderState.PLACED and order.late_order is not None:
        yield f"{name_of(order)}: placed, and late too"
    if not 0 <= order.refunded <= order.charge:
        yield f"{name_of(order)}: {order.refunded} of {order.charge} went back"


def _counters(parts: Parts, tenant: str) -> Iterator[str]:
    entries = Counter((entry["kind"], entry["id"]) for entry in parts.wallet.ledger(tenant))
    # An order may be paid back in steps, as its panel does; what that comes to is in `refunded`.
    yield from (f"{count} times: {one}" for one, count in entries.items() if count > 1 and one[0] != "refund")
    for what, (counted, due) in {"days": days(parts, tenant), "tokens": allowances(parts, tenant)}.items():
        if counted != due:
            yield f"{tenant}'s {what} counted {counted}, and its orders cost {due}"


def _difference(market: Market, tenant: str, credit: int, orders: list[Order]) -> int:
    held = sum(order.wallet_charge for order in orders if order.state in (OrderState.UNKNOWN, OrderState.SENDING))
    spent = sum(order.price for order in orders if order.state is OrderState.PLACED)
    available, found_held = market.money(tenant)
    return abs(credit - spent - held - available) + abs(held - found_held)


def _judge_end(parts: Parts, order: Order, bought: list[Sold], verdict: Verdict) -> None:
    if order.state is OrderState.PLACED and not order.refund_open:
        paid = sum(money.micros(one.charge - one.refunded) for one in bought)
        verdict.difference += abs(paid - order.price)
    if order.state is OrderState.NOT_PLACED and bought:
        noted = {one.number for one in parts.orders.bound(Account(order.provider)) if one.order == order.id}
        is_noted = noted.issuperset(one.id for one in bought)
        (verdict.late if is_noted else verdict.lost).append(f"{name_of(order)}: given up, and bought: {order.evidence}")


def _left(market: Market, orders: list[Order]) -> Iterator[str]:
    queue = {(order.tenant, order.id) for order in needing_decision(market.parts)}
    for slug in market.network.panels:
        for order in market.parts.orders.unsettled(Account(slug)):
            if (order.tenant, order.id) not in queue:
                yield f"{name_of(order)}: neither settled nor in the queue"
    for order in orders:
        if order.refund_open and (order.tenant, order.id) not in queue:
            yield f"{name_of(order)}: its refund is open, and nobody is asked"
    yield from (f"{name_of(order)}: still on its way" for order in orders if order.state is OrderState.SENDING)


def _words(
    told: Mapping[str, Sequence[str]], standing: Mapping[str, Order], bought: Mapping[str, Sequence[Sold]]
) -> Iterator[str]:
    """Hold the gateway to what its callers were told."""
    for one, words in told.items():
        order = standing.get(one)
        for word in words:
            if word.startswith("order") and (order is None or word != f"order {order.id}" or not bought.get(one)):
                yield f"{one}: {word} was told of, and is not placed"
        # Who asks again after a refusal may buy; who is refused after he was not answered may have bought.
        if all(map(_is_refusal, words)) and (order is not None or bought.get(one)):
            yield f"{one}: {words} was told, and it was bought or is held"


def _is_refusal(word: str) -> bool:
    return word not in (PENDING, KILLED) and not word.startswith("order")
