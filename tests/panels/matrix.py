"""The matrix: what came of every damage to every call of every dialect, as one table after the tests.

The tests of the suite record where their result belongs; the records travel with the reports, from the processes of
``pytest -n`` too. A run that left tests out leaves cells empty.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from .conformance import COLUMNS, FORMS

Row = tuple[str, str]
PRINTED = pytest.StashKey[bool]()
OUTCOMES = ("passed", "failed")
LABEL, CELL = 42, 4


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows, reasons = collected(terminalreporter.stats)
    # The hook may be known to several conftest files.
    if not rows or PRINTED in terminalreporter.config.stash:
        return
    terminalreporter.config.stash[PRINTED] = True
    terminalreporter.section("conformance: damage by dialect and call")
    for line in table(rows, reasons):
        terminalreporter.write_line(line)


def collected(stats: Mapping[str, list[Any]]) -> tuple[Mapping[Row, Mapping[str, bool]], Mapping[Row, str]]:
    """Return for every row its cells, whether all their tests passed, and for rows not supported the reason."""
    rows: dict[Row, dict[str, bool]] = {}
    reasons: dict[Row, str] = {}
    reports = [(outcome, report) for outcome in OUTCOMES for report in stats.get(outcome, [])]
    for outcome, report in reports:
        for dialect, form, cell in (value for name, value in report.user_properties if name == "matrix"):
            row = rows.setdefault((dialect, form), {})
            if cell in COLUMNS:
                row[cell] = row.get(cell, True) and outcome == "passed"
            else:
                reasons[dialect, form] = cell if outcome == "passed" else f"FAIL: {cell}"
    return rows, reasons


def table(rows: Mapping[Row, Mapping[str, bool]], reasons: Mapping[Row, str]) -> Iterator[str]:
    """Yield the lines of the table and its legend."""
    yield " " * LABEL + "".join(column.rjust(CELL + 1) for column in COLUMNS)
    places = [*FORMS]
    for dialect, form in sorted(rows, key=lambda row: (row[0], places.index(row[1]))):
        row = (dialect, form)
        cells = (_cell(rows[row], column, supported=row not in reasons) for column in COLUMNS)
        kind = "batch" if FORMS[form].batch else "single"
        label = f"{dialect:<14}{FORMS[form].action.value:<15}{kind}"
        line = label.ljust(LABEL) + "".join(cell.rjust(CELL + 1) for cell in cells)
        yield f"{line}  {reasons.get(row, '')}".rstrip()
    yield ""
    yield from (f"{column:>5}  {meaning}" for column, meaning in COLUMNS.items())


def _cell(cells: Mapping[str, bool], column: str, *, supported: bool) -> str:
    if not supported:
        return "-"
    return {True: "ok", False: "FAIL", None: ""}[cells.get(column)]
