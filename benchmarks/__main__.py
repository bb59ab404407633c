"""`python -m benchmarks`: measure everything, some two minutes. Progress goes to standard error, tables to output."""

import platform
import tempfile
from pathlib import Path

import click

from benchmarks import calls, cold, package, warm
from benchmarks.stage import stage
from cli.packaging import build


def _progress(message: str) -> None:
    click.echo(message, err=True)


def main() -> None:
    """Measure and print, part by part."""
    click.echo(f"Python {platform.python_version()}, {platform.machine()}. Compare within one run only.")
    built = build(_progress)
    package.run(built.archive)
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder), _progress) as running:
        calls.run(running)
        warm.run(running)
    cold.run(built.archive, _progress)


if __name__ == "__main__":
    main()
