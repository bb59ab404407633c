"""Money: exact decimals at the edges, integer micro-units (10^-6 of the currency) in between.

Prices are ``rate × (1 + markup) × fx`` per 1000, rounded half up to 0.000001; a charge is computed from the
rounded rate, the one that the tenant was shown. Floats never occur.
"""

from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

MICRO = Decimal("0.000001")
# Largest amount that we handle, in micro-units: 10^12 whole units. Larger figures are damage, not money.
MAX_MICROS = 10**18
# Wide enough for the product of any rate, markup and fx of up to 18 digits each, so that only `quantize` rounds.
_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)


def micros(amount: Decimal) -> int:
    """Return an amount of whole currency units in micro-units, rounded half up.

    Raises:
        ValueError: the amount is not finite or beyond 10^12.
    """
    if not amount.is_finite():
        raise ValueError("an amount of money must be finite")
    try:
        result = int(amount.quantize(MICRO, context=_EXACT).scaleb(6, context=_EXACT))
    except InvalidOperation as error:
        raise ValueError("an amount of money has too many digits") from error
    if abs(result) > MAX_MICROS:
        raise ValueError("an amount of money is beyond 10^12")
    return result


def amount(value: int) -> Decimal:
    """Return micro-units as whole currency units, without trailing zeros: 5850000 gives ``Decimal('5.85')``."""
    exact = Decimal(value).scaleb(-6, context=_EXACT)
    return exact.quantize(Decimal(1)) if exact == exact.to_integral_value() else exact.normalize(_EXACT)


def text(value: int) -> str:
    """Return micro-units as plain text in whole currency units: 270000 gives ``'0.27'``."""
    return format(amount(value), "f")


def tenant_rate(rate: Decimal, *, markup: Decimal, fx: Decimal) -> int:
    """Return the tenant's price per 1000 in micro-USD.

    Args:
        rate: the provider's price per 1000 in the provider's currency.
        markup: share added for the tenant, ``Decimal('0.10')`` for 10 %.
        fx: USD per unit of the provider's currency.
    """
    return micros(_EXACT.multiply(_EXACT.multiply(rate, 1 + markup), fx))


def share(value: int, part: int, whole: int) -> int:
    """Return ``part / whole`` of an amount in micro-units, rounded half up; ``part`` beyond ``whole`` is all of it."""
    return (2 * value * min(part, whole) + whole) // (2 * whole)


def charge(rate: int, quantity: int) -> int:
    """Return the price of ``quantity`` units at ``rate`` micro-USD per 1000, in micro-USD, rounded half up."""
    return (rate * quantity + 500) // 1000
