"""Exact money: what an order costs, what comes back, and how panels write amounts."""

from decimal import ROUND_DOWN, Decimal

PER = 1000
"""Rates are per thousand units."""

SMALLEST = Decimal("0.00000001")
"""A share of a charge may never end (a third); what a panel pays back is cut here."""

CENT = Decimal("0.01")


def price(rate: Decimal, quantity: int) -> Decimal:
    """What a quantity costs."""
    return rate * quantity / PER


def share(charge: Decimal, remains: int, quantity: int) -> Decimal:
    """The part of a charge that was not delivered."""
    if remains >= quantity:
        return charge
    return (charge * remains / quantity).quantize(SMALLEST, ROUND_DOWN)


def plain(amount: Decimal) -> Decimal:
    """Without trailing zeros: 100.84292, 5.85, 3."""
    return Decimal(format(amount.normalize(), "f"))


def with_cents(amount: Decimal) -> Decimal:
    """With at least two decimals: 150.00, 2.50, 0.0025."""
    rounded = amount.quantize(CENT)
    return rounded if rounded == amount else plain(amount)
