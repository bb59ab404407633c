"""docs/adding-a-panel.md, walked through: what it shows is made, in a folder of its own, and must pass the suite."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/adding-a-panel.md").read_text()
REGISTRY = "chalicelib/panels/__init__.py"
# A file's name ends the line before its block.
BLOCK = re.compile(r"`(?P<path>[\w./-]+)`:\n\n```\w*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
COPIED = ("chalicelib", "tests/panels", "tests/__init__.py", "pyproject.toml")


def blocks() -> Mapping[str, str]:
    return {match["path"]: match["text"] for match in BLOCK.finditer(GUIDE)}


def registry_line() -> str:
    match = re.search(rf"`{REGISTRY}` and added to the tuple there:\n\n```python\n(.+)\n```", GUIDE)
    assert match
    return match[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the tree, changed in the ways of the guide and in no other."""
    for name in COPIED:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    for name, text in blocks().items():
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    register(tmp_path / REGISTRY)
    return tmp_path


def register(registry: Path) -> None:
    line = registry_line()
    listed = registry.read_text().replace("for dialect in (", f"for dialect in ({line.split()[-1]}, ", 1)
    registry.write_text(listed.replace("\nfrom chalicelib", f"\n{line}\nfrom chalicelib", 1))


def test_it_shows_what_a_dialect_consists_of() -> None:
    names = {Path(name).name for name in blocks()}
    assert names >= {"example.py", "test_example.py", "balance.txt", "services.txt", "add.txt", "status.txt"}


def run(project: Path, *command: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own tools
        [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return done.stdout


def test_what_it_shows_passes_the_suite(project: Path) -> None:
    printed = run(
        project, "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "tests/panels/test_example.py"
    )
    assert re.search(r"example +status +batch +ok", printed)


def test_what_it_shows_is_typed_and_tidy(project: Path) -> None:
    files = ("chalicelib/panels/example.py", "tests/panels/test_example.py")
    run(project, "mypy", "--strict", *files)
    run(project, "ruff", "check", "--no-cache", *files)
    run(project, "ruff", "format", "--check", "--no-cache", *files)
