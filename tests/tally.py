"""What the fault matrix, the storm and the rotations under load came to, in a few lines after the tests.

Each case records its verdicts, and a storm its report; they travel with the tests' reports, from the processes of
``pytest -n`` too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from chalicelib import money
from tests.judging import Verdict

NAME = "fault matrix"
STORM = "storm"
ROTATION = "rotation under load"
Record = tuple[int, int, int, int]
"""How many cases there are in all, and of one: orders bought twice, orders lost, micro-USD of difference."""


def record(node: pytest.Item, whole: int, verdicts: Sequence[Verdict]) -> None:
    doubled = max(len(verdict.doubled) for verdict in verdicts)
    lost = max(len(verdict.lost) for verdict in verdicts)
    node.user_properties.append((NAME, (whole, doubled, lost, max(verdict.difference for verdict in verdicts))))


def summarize(terminalreporter: pytest.TerminalReporter) -> None:
    records = list(_collected(terminalreporter.stats))
    if records:
        terminalreporter.section(NAME)
        terminalreporter.write_line(line(records, failed=_failed(terminalreporter.stats)))
    for section in (STORM, ROTATION):
        for number, told in enumerate(_told(terminalreporter.stats, section)):
            if number == 0:
                terminalreporter.section(section)
            terminalreporter.write_line(told)


def _told(stats: Mapping[str, list[Any]], section: str) -> Iterator[str]:
    for outcome in ("passed", "failed"):
        for report in stats.get(outcome, []):
            yield from (value for name, value in report.user_properties if name == section)


def _collected(stats: Mapping[str, list[Any]]) -> Iterator[Record]:
    for outcome in ("passed", "failed"):
        for report in stats.get(outcome, []):
            yield from (tuple(value) for name, value in report.user_properties if name == NAME)


def _failed(stats: Mapping[str, list[Any]]) -> int:
    return sum(name == NAME for report in stats.get("failed", []) for name, _ in report.user_properties)


def line(records: Sequence[Record], *, failed: int) -> str:
    """Return the result in words."""
    whole = max(one[0] for one in records)
    doubled, lost, difference = (sum(one[place] for one in records) for place in (1, 2, 3))
    cents = money.text(difference * 100)
    told = f"{len(records):,} of {whole:,} cases, {doubled} doubled, {lost} lost, {cents} cents of difference"
    return f"{NAME}: {told}" + (f", {failed} FAILED" if failed else "")
