from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import options
from cli.text import PERIODS, cell, duration_text, moment, percent_text, plain, rate_text


@pytest.mark.parametrize(
    ("text", "interval"),
    [("1/s", 1_000_000), ("10/s", 100_000), ("3/s", 333_334), ("30/m", 2_000_000), ("100/h", 36_000_000)],
)
def test_rates(text: str, interval: int) -> None:
    assert options.read_rate(text) == interval
    assert rate_text(interval) == text


@given(st.integers(1, 1000), st.sampled_from(["s", "m", "h"]))
def test_a_rate_is_never_faster_than_it_was_written(calls: int, unit: str) -> None:
    interval = options.read_rate(f"{calls}/{unit}")
    assert interval * calls >= PERIODS[unit]
    assert options.read_rate(rate_text(interval)) == interval


@pytest.mark.parametrize("text", ["", "1", "0/s", "1/d", "1.5/s", "-1/s", " 1/s", "1/s\n", "٣/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the hint is the type's, not the reader's
        options.read_rate(text)


@given(st.integers(0, 9_999_999))
def test_durations_are_read_as_they_are_written(seconds: int) -> None:
    assert options.read_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "share"), [("10%", "0.1"), ("0%", "0"), ("2.5%", "0.025"), ("100%", "1"), ("0.0001%", "0.000001")]
)
def test_percentages(text: str, share: str) -> None:
    assert options.read_percent(text) == Decimal(share)
    assert percent_text(Decimal(share)) == text


@given(st.decimals("0.000001", "1000000", places=6))
def test_amounts_are_exact(amount: Decimal) -> None:
    assert options.read_amount(f"{amount:f}") == int(amount * 1_000_000)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Shop.Example/", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
    ],
)
def test_origins_are_kept_as_browsers_write_them(text: str, origin: str) -> None:
    assert options.read_origin(text) == origin


@pytest.mark.parametrize("text", ["https://", "https://a b", "https://shop.example:99999", "https://-a.b", "null", "*"])
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the hint is the type's, not the reader's
        options.read_origin(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-15", "2027-01-15T00:00:00.000Z"),
        ("2027-01-15T08:00:00Z", "2027-01-15T08:00:00.000Z"),
        ("2027-01-15T08:00:00.5+02:00", "2027-01-15T06:00:00.500Z"),
    ],
)
def test_moments_are_read_as_they_sort(text: str, moment: str) -> None:
    assert options.read_since(text) == moment


def test_how_long_ago_is_a_moment_too() -> None:
    now = datetime.now(UTC)
    assert (now - timedelta(hours=2)).isoformat() < options.read_since("1h") < now.isoformat()


@pytest.mark.parametrize("text", ["", "yesterday", "1y", "9999999d", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the hint is the type's, not the reader's
        options.read_since(text)


def test_moments_are_rfc_3339() -> None:
    assert moment(1_800_000_000_123_456) == "2027-01-15T08:00:00.123Z"
    assert moment(None) is None


def test_small_and_large_numbers_have_no_exponent() -> None:
    assert str(plain(Decimal("1E+3"))) == "1000"
    assert str(plain(Decimal("8.50"))) == "8.5"


def test_people_read_lists_and_members_without_brackets() -> None:
    assert cell(["a", None]) == "a, -"
    assert cell({"goal_key": "x", "late": True}) == "goal_key=x, late=yes"
    assert cell({}) == cell([]) == "-"
