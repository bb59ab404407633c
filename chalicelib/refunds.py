"""What goes back to the tenant when an order has ended without being delivered whole (protocol.md 4).

Only mysticsmm documents its rule, and the others' behaviour fits it: of a partial order the undelivered share is paid
back; of a canceled one the same if something remains, "if the order is cancelled before any delivery, you get a full
refund", which it writes as remains 0. A refunded order and a failed one are paid back whole.

Some orders do not say how large they are: a package, and an order that a subscription made. Of those the panel's own
charge tells, which the panels that have such orders state after the refund.
"""

from decimal import ROUND_HALF_UP, Decimal

from chalicelib import money
from chalicelib.actions import Status
from chalicelib.model import PAID_BACK_WHOLE, Order, OrderStatus, Reading
from chalicelib.order_types import total_units

_SHARED = frozenset({OrderStatus.CANCELED, OrderStatus.PARTIAL})


def refund(order: Order, reading: Reading, status: Status) -> int | None:
    """Return what goes back in all for an order that stands so, in micro-USD, at least what went back before.

    None if something may go back and nothing tells how much: the operator decides.

    A subscription pays for its orders one by one and gets back what it holds (`subscriptions`).
    """
    if order.held is not None:
        return 0
    due = _due(order, reading, status)
    if due is None:
        return None if order.refunded < order.charge else order.refunded
    return max(order.refunded, due)


def _due(order: Order, reading: Reading, status: Status) -> int | None:
    if reading.status in PAID_BACK_WHOLE:
        return order.charge
    return _shared(order, reading, status) if reading.status in _SHARED else 0


def _shared(order: Order, reading: Reading, status: Status) -> int | None:
    """Return what goes back of an order that may have been delivered in part, None if nothing tells."""
    if order.parent is not None and status.charge is not None:
        return _by_charge(order, status.charge)
    if total_units(order) is not None:
        return _by_remains(order, reading, status)
    if reading.status is OrderStatus.CANCELED:
        return order.charge
    return None if status.charge is None else _by_charge(order, status.charge)


def _by_charge(order: Order, charge: Decimal) -> int | None:
    """Return what the panel took off its price, at ours; both are of a thousand, or of a package."""
    if not order.cost:
        return None
    left = (charge * order.rate / order.cost).to_integral_value(ROUND_HALF_UP)
    return max(0, order.charge - int(left))


def _by_remains(order: Order, reading: Reading, status: Status) -> int | None:
    total = total_units(order)
    if reading.remains:
        return money.share(order.charge, reading.remains, total or 1)
    if status.odd_remains:
        return None
    if reading.status is OrderStatus.PARTIAL:
        return None if reading.remains is None else 0
    if reading.remains is None and status.charge != 0:
        # A drip-feed's parent states no figure (protocol.md 1.5), however much of it was delivered; and silence says no
        # more than a figure that could not be read.
        return None if order.runs is not None or order.refund_open or order.refund_decided is not None else order.charge
    return order.charge
