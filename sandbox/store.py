"""What survives a restart: one SQLite file, written in one transaction at a time.

A file that is rewritten as a whole would cost more with every order; this one takes only what changed.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox.journal import KEPT, Entry
from sandbox.panel import Changes, Panel

VERSION = 1

_TABLES = """
    CREATE TABLE panels (slug TEXT PRIMARY KEY, head TEXT NOT NULL);
    CREATE TABLE orders (slug TEXT, id INTEGER, record TEXT NOT NULL, PRIMARY KEY (slug, id));
    CREATE TABLE requests (slug TEXT, sequence INTEGER, record TEXT NOT NULL, PRIMARY KEY (slug, sequence));
"""


class StoreError(Exception):
    """The file is not one of ours."""


class Store:
    """The state file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # The log holds whatever was sent here, keys included.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} is no state file of the sandbox: {error}") from None

    def load(self, panels: Mapping[str, Panel]) -> None:
        """Bring the stored panels back to life."""
        with self._transaction() as db:
            for slug, head in db.execute("SELECT slug, head FROM panels"):
                if slug in panels:
                    orders = _records(db, "SELECT record FROM orders WHERE slug = ? ORDER BY id", slug)
                    log = _records(db, "SELECT record FROM requests WHERE slug = ? ORDER BY sequence", slug)
                    panels[slug].restore(json.loads(head), orders, [Entry(**record) for record in log])

    def save(self, panels: Iterable[Panel]) -> None:
        """Write what changed since the last time."""
        changes = []
        for panel in panels:
            with panel.lock:
                changes.append(panel.take_changes())
        with self._transaction() as db:
            for change in filter(None, changes):
                _write(db, change)

    def _prepare(self) -> None:
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                db.executescript(f"{_TABLES} PRAGMA user_version = {VERSION};")
            elif version != VERSION:
                raise StoreError(f"{self._path} was written by another version of the sandbox ({version})")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path)) as db, db:
            yield db


def _records(db: sqlite3.Connection, query: str, slug: str) -> list[Mapping[str, Any]]:
    return [json.loads(record) for (record,) in db.execute(query, (slug,))]


def _write(db: sqlite3.Connection, change: Changes) -> None:
    slug = change.slug
    if change.erased:
        db.execute("DELETE FROM orders WHERE slug = ?", (slug,))
    if change.erased or change.forgotten:
        db.execute("DELETE FROM requests WHERE slug = ?", (slug,))
    db.execute("INSERT OR REPLACE INTO panels VALUES (?, ?)", (slug, json.dumps(change.head)))
    orders = ((slug, record["id"], json.dumps(record)) for record in change.orders)
    db.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", orders)
    entries = ((slug, entry.sequence, json.dumps(asdict(entry))) for entry in change.entries)
    db.executemany("INSERT OR REPLACE INTO requests VALUES (?, ?, ?)", entries)
    oldest = change.head["last_request"] - KEPT
    db.execute("DELETE FROM requests WHERE slug = ? AND sequence <= ?", (slug, oldest))
