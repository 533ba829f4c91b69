"""How a file of this package is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, made when missing, for one call: readers and a writer do not wait for each other."""
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
