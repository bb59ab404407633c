"""The readers, value by value: every spelling of protocol.md 1.3-1.7."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import money as amounts
from chalicelib.errors import UnreadableReply
from chalicelib.model import OrderStatus, RefillStatus
from chalicelib.panels import reading
from chalicelib.panels.reading import Money


@pytest.mark.parametrize(
    ("given_", "amount", "currency"),
    [
        ("100.84292", "100.84292", None),
        ("1,234.56", "1234.56", None),
        ("1.234,56", "1234.56", None),
        ("1,234,567.89", "1234567.89", None),
        ("1.234.567,89", "1234567.89", None),
        ("1,234,567", "1234567", None),
        ("1.234.567", "1234567", None),
        ("$12.50", "12.50", None),
        ("$ 12.50", "12.50", None),
        ("-$12.50", "-12.50", None),
        ("$-12.50", "-12.50", None),
        ("US$12.50", "12.50", "USD"),
        ("12.50 USD", "12.50", "USD"),
        ("12.50USDT", "12.50", "USDT"),
        ("EUR 12,50", "12.50", "EUR"),
        ("₹1,234.56", "1234.56", "INR"),
        ("₹1,23,456.78", "123456.78", "INR"),
        ("€1.234,56", "1234.56", "EUR"),
        ("0.125", "0.125", None),
        ("1.234", "1.234", None),
        ("0,125", "0.125", None),
        ("12,5", "12.5", None),
        ("1234,567", "1234.567", None),
        ("8", "8", None),
        (".5", "0.5", None),
        ("1.0E-5", "0.000010", None),
        ("\xa012.50 ", "12.50", None),
        (8, "8", None),
        (0, "0", None),
        (Decimal("2.50"), "2.50", None),
        (Decimal("5.8499999999999996447286321199499070644378662109375"), None, None),
    ],
)
def test_money_is_read_exactly(given_: object, amount: str | None, currency: str | None) -> None:
    expected = Decimal(amount) if amount is not None else given_
    assert reading.money(given_) == Money(expected, currency)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given_",
    [
        *(
            "1,234",
            "$1,234",
            "999,999",
            "12,34,5",
            "1,234.56.78",
            "1.234,5,6",
            "1,2345.6",
            "12,345.67,8",
            "1..2",
            ",",
            ".",
        ),
        *("", " ", "free", "12 coins", "1.2K", "12.50 usd", "0x10", "--5", "\u0661\u0662", "NaN", "Infinity", "1e5000"),
        *("9" * 70, "1000000000000", 10**12, Decimal("1E+12"), Decimal("1E-999999"), Decimal("1E+999999"), 10**4000),
        *(None, True, False, [], {}, ["1"], Decimal("NaN"), Decimal("Infinity"), 1.5),
    ],
    ids=lambda value: str(value)[:20],
)
def test_money_that_can_be_read_in_two_ways_or_none_is_refused(given_: object) -> None:
    assert reading.money(given_) is None


@given(st.decimals(min_value=0, max_value=10**11, places=6, allow_nan=False))
def test_money_in_every_spelling_is_the_same_micro_units(amount: Decimal) -> None:
    spellings = [
        str(amount),
        f"{amount:,}",
        f"${amount:,}",
        f"{amount} USD",
        f"{amount:,}".translate(str.maketrans(",.", ".,")),
    ]
    read = [reading.money(text) for text in [amount, *spellings]]
    assert {amounts.micros(money.amount) for money in read if money} == {amounts.micros(amount)}
    assert None not in read


def test_a_price_is_not_negative() -> None:
    assert reading.price("0.90") == Decimal("0.90")
    assert reading.price("-0.90") is None


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        *((0, 0), (157, 157), ("3572", 3572), (" 5 ", 5), ("10,000", 10_000), ("1,000,000", 1_000_000), ("157.0", 157)),
        *((-4, -4), ("-4", -4), (Decimal("157.0"), 157), (10**19 - 1, 10**19 - 1)),
        *((None, None), ("Unknown", None), ("", None), (True, None), (Decimal("1.5"), None), ("1.5", None)),
        *(("1.000", None), ("1,00", None), (10**19, None), ("9" * 20, None), (Decimal("1E+99"), None), ([], None)),
        *(
            (1.0, None),
            ("\u0661", None),
            ("1e3", None),
            (Decimal("1E-99999"), None),
            ("99,999,999,999,999,999,999", None),
        ),
    ],
)
def test_counts(given_: object, expected: int | None) -> None:
    assert reading.count(given_) == expected


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        *(
            (True, True),
            (False, False),
            (1, True),
            (0, False),
            ("true", True),
            ("TRUE", True),
            ("1", True),
            ("0", False),
        ),
        *(("false", False), (2, None), ("", None), (None, None), ("Refill request accepted.", None), ([], None)),
    ],
)
def test_flags(given_: object, expected: bool | None) -> None:  # noqa: FBT001 - the expectation
    assert reading.flag(given_) is expected


@pytest.mark.parametrize(
    ("spelling", "status"),
    [
        *(("In progress", OrderStatus.IN_PROGRESS), ("IN_PROGRESS", OrderStatus.IN_PROGRESS)),
        *(("Inprogress", OrderStatus.IN_PROGRESS), ("in-progress", OrderStatus.IN_PROGRESS)),
        *(("Canceled", OrderStatus.CANCELED), ("CANCELLED", OrderStatus.CANCELED), ("Fail", OrderStatus.FAILED)),
        *(("Partially Completed", OrderStatus.PARTIAL), ("partial", OrderStatus.PARTIAL)),
        *(("Awaiting", OrderStatus.PENDING), ("queued", OrderStatus.QUEUED), ("Refunded", OrderStatus.REFUNDED)),
        *(("Error", None), ("Refill", None), ("unknown", None), ("Complet", None), ("", None)),
        *(("Pending", OrderStatus.PENDING), ("Processing", OrderStatus.PROCESSING)),
        *(("Completed", OrderStatus.COMPLETED), ("COMPLETED", OrderStatus.COMPLETED), ("Partial", OrderStatus.PARTIAL)),
        *(("Active", OrderStatus.ACTIVE), ("Paused", OrderStatus.PAUSED), ("EXPIRED", OrderStatus.EXPIRED)),
    ],
)
def test_status_words(spelling: str, status: OrderStatus | None) -> None:
    assert reading.STATUSES.get(reading.word(spelling)) is status


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        *(("Default", "Default"), ("default", "Default"), (None, "Default"), ("", "Default"), (0, "0")),
        *(
            ("custom_comments", "Custom Comments"),
            ("Custom_comments", "Custom Comments"),
            ("SEO", "SEO"),
            ("seo", "SEO"),
        ),
        *(("MENTIONS USER FOLLOWERS", "Mentions User Followers"), ("Story Robot", "Story Robot")),
    ],
)
def test_service_types(given_: object, expected: str) -> None:
    assert reading.service_type(given_) == expected


def test_a_cause_quotes_little_and_no_control_characters() -> None:
    with pytest.raises(UnreadableReply) as caught:
        reading.document(b"<html><title>" + b"x\x1b[31m\n" * 5000 + b"</title>")
    assert len(str(caught.value)) < 200
    with pytest.raises(UnreadableReply) as caught:
        reading.document(b"Service \x1b[31munavailable " * 1000)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_fractions_are_never_floats() -> None:
    assert reading.document(b'{"a": 0.1, "b": 1e2}') == {"a": Decimal("0.1"), "b": Decimal("1e2")}


def test_emoji_in_escaped_pairs_are_kept() -> None:
    assert reading.document(rb'"\ud83d\ude00 \\ud83d"') == "\N{GRINNING FACE} \\ud83d"


@pytest.mark.parametrize(
    ("spelling", "status"),
    [
        *(("Pending", RefillStatus.PENDING), ("awaiting", RefillStatus.PENDING), ("Queued", RefillStatus.PENDING)),
        *(("In progress", RefillStatus.IN_PROGRESS), ("IN_PROGRESS", RefillStatus.IN_PROGRESS)),
        *(("Processing", RefillStatus.IN_PROGRESS), ("Completed", RefillStatus.COMPLETED)),
        *(("Rejected", RefillStatus.REJECTED), ("REJECTED", RefillStatus.REJECTED), ("Fail", RefillStatus.REJECTED)),
        *(("Error", RefillStatus.REJECTED), ("Canceled", RefillStatus.REJECTED)),
        *(("Cancelled", RefillStatus.REJECTED), ("Partial", None), ("Refunded", None), ("unknown", None), ("1", None)),
    ],
)
def test_refill_words(spelling: str, status: RefillStatus | None) -> None:
    assert reading.REFILL_STATUSES.get(reading.word(spelling)) is status


@pytest.mark.parametrize(
    ("given_", "ids"),
    [
        *(([5, "6"], (5, 6)), ("5, 6", (5, 6)), ([], ())),
        # A child order that was overlooked would never be paid for.
        *((["5", 0, "x", [7]], None), ("5,x", None), (5, None), ({"0": 5}, None), (True, None), (None, None)),
        ("", None),
    ],
)
def test_lists_of_ids(given_: object, ids: tuple[int, ...] | None) -> None:
    assert reading.identifiers(given_) == ids


@pytest.mark.parametrize("spelling", ["-2", "-4", " -5", "- 1"])
def test_a_negative_number_is_no_numbered_status(spelling: str) -> None:
    assert reading.word(spelling) not in {"1", "2", "3", "4", "5"}
