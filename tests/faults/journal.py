"""What clients asked for and were told, written down before a request goes out and after its answer came, each on disk."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.oracle import OUTSIDE_TABLES

_COLUMNS = OUTSIDE_TABLES["journal"]


class Journal:
    """An append-only file; every entry is synchronised before `asked` or `answered` returns.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(f"CREATE TABLE asked ({', '.join(_COLUMNS)})")
        self._database.execute("CREATE TABLE answered (request_id, answered_at, status, body, quote_id, order_id)")

    def asked(self, row: Mapping[str, Any]) -> int:
        """Write down a request that is about to go out; return its number."""
        with self._lock:
            (number,) = self._database.execute("SELECT coalesce(max(rowid), 0) + 1 FROM asked").fetchone()
            row = {**row, "request_id": number, "sent_at": _now()}
            self._database.execute(
                f"INSERT INTO asked VALUES ({', '.join('?' * len(_COLUMNS))})", [row.get(name) for name in _COLUMNS]
            )
        return int(number)

    def answered(self, number: int, status: int, body: str, *, quote_id: str | None, order_id: str | None) -> None:
        """Write down the answer to a request."""
        with self._lock:
            self._database.execute(
                "INSERT INTO answered VALUES (?, ?, ?, ?, ?, ?)", (number, _now(), status, body, quote_id, order_id)
            )

    def rows(self) -> list[dict[str, Any]]:
        """Return the requests with their answers, in the order in which they went out."""
        with self._lock:
            cursor = self._database.execute(
                "SELECT a.request_id, a.tenant_id, a.principal, a.operation, a.idempotency_key, a.intent, a.subject_id, "
                "a.sent_at, b.answered_at, b.status, b.body, b.quote_id, b.order_id "
                "FROM asked a LEFT JOIN answered b USING (request_id) ORDER BY a.request_id"
            )
            return [dict(zip(_COLUMNS, row, strict=True)) for row in cursor]

    def close(self) -> None:
        self._database.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
