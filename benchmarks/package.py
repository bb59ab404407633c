"""The size of what is deployed."""

import zipfile
from collections import Counter
from pathlib import Path

from benchmarks.table import show

LARGEST = 8


def run(archive: Path) -> None:
    """Print the package's size, and its largest parts."""
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    zipped = Counter[str]()
    unpacked = Counter[str]()
    for entry in entries:
        part = entry.filename.partition("/")[0]
        zipped[part] += entry.compress_size
        unpacked[part] += entry.file_size
    rows: list[tuple[str, int, int]] = [("whole package", archive.stat().st_size // 1000, unpacked.total() // 1000)]
    rows += [(part, size // 1000, unpacked[part] // 1000) for part, size in zipped.most_common(LARGEST)]
    show("Package, kB", ("part", "zipped", "unpacked"), rows)
