"""Tables for people."""

import re
from collections.abc import Iterable, Sequence

import click

_NUMBER = re.compile(r"[\d,.]+")


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: numbers to the right, anything else to the left."""
    lines = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    click.echo(f"\n{title}\n")
    for line in lines:
        cells = (_align(cell, width) for cell, width in zip(line, widths, strict=True))
        click.echo(f"  {'  '.join(cells)}".rstrip())


def _text(cell: object) -> str:
    match cell:
        case float():
            return f"{cell:,.2f}"
        case int():
            return f"{cell:,}"
        case _:
            return str(cell)


def _align(cell: str, width: int) -> str:
    return cell.rjust(width) if _NUMBER.fullmatch(cell) else cell.ljust(width)
