"""The table after the tests: what it shows, and that no dialect is missing from it."""

from dataclasses import dataclass, field
from pathlib import Path

from chalicelib.panels import DIALECTS

from . import transcripts
from .conformance import COLUMNS, DAMAGES
from .matrix import collected, table


@dataclass
class Report:
    user_properties: list[tuple[str, list[str]]] = field(default_factory=list)


def cell(dialect: str, form: str, column: str) -> Report:
    return Report([("matrix", [dialect, form, column])])


def test_one_failure_fails_its_cell_and_no_other() -> None:
    stats = {
        "passed": [cell("a", "add", "bom"), cell("a", "add", "bom"), cell("a", "status", "bom"), Report()],
        "failed": [cell("a", "add", "bom")],
    }
    lines = [*table(*collected(stats))]
    assert lines[1].split() == ["a", "add", "single", "FAIL"]
    assert lines[2].split() == ["a", "status", "single", "ok"]


def test_a_call_that_a_dialect_lacks_has_dashes_and_a_reason() -> None:
    rows = [cell("a", "add-batch", "nothing"), cell("a", "cancel", "no such action")]
    lines = [*table(*collected({"passed": rows[:1], "failed": rows[1:]}))]
    assert lines[1].split() == ["a", "add", "batch", *"-" * len(COLUMNS), "nothing"]
    assert lines[2].endswith("FAIL: no such action")


def test_every_damage_has_a_column_and_every_column_a_damage() -> None:
    assert {damage.column for damage in DAMAGES.values()} == set(COLUMNS)


def test_every_dialect_has_its_suite_and_its_transcripts() -> None:
    folder = Path(__file__).parent
    assert [name for name in DIALECTS if not (folder / f"test_{name}.py").exists()] == []
    assert {path.name for path in transcripts.FOLDER.iterdir()} == set(DIALECTS)
