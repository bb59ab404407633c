"""What goes back to the tenant when an order has ended without being delivered whole (protocol.md 4).

Only mysticsmm documents its rule, and the others' behaviour fits it: of a partial order the undelivered part is paid
back; of a canceled one the same if something remains, "if the order is cancelled before any delivery, you get a full
refund", which it writes as remains 0; a refunded one is paid back whole. A panel's `Fail` counts as canceled.
"""

from chalicelib import money
from chalicelib.log import logger
from chalicelib.model import Order, OrderStatus, Reading
from chalicelib.order_types import total_units


def refund(order: Order, reading: Reading) -> int:
    """Return what goes back in all for an order that stands so, in micro-USD, at least what went back before.

    A subscription pays for its orders one by one and gets back what it holds (`subscriptions`).
    """
    if order.held is not None:
        return 0
    return max(order.refunded, _due(order, reading))


def _due(order: Order, reading: Reading) -> int:
    match reading.status:
        case OrderStatus.REFUNDED:
            return order.charge
        case OrderStatus.CANCELED:
            return _undelivered(order, reading.remains) if reading.remains else order.charge
        case OrderStatus.PARTIAL:
            return _undelivered(order, reading.remains)
        case _:
            return 0


def _undelivered(order: Order, remains: int | None) -> int:
    total = total_units(order)
    if remains is None or total is None:
        facts = {"order": order.id, "tenant": order.tenant, "provider": order.provider}
        logger.error("a refund cannot be computed", extra={"facts": facts})
        return 0
    return money.share(order.charge, remains, total) if total else 0
