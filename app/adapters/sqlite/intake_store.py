"""What other machines hand in and people look up: spans of traces, and alerts as they were raised and resolved.

Bounded by age and by number: when the limit is reached the oldest go, and whoever hands in never waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.adapters.sqlite.file import open_file

_SCHEMA = """
CREATE TABLE IF NOT EXISTS span (
    trace TEXT NOT NULL, span TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL, started INTEGER NOT NULL,
    nanoseconds INTEGER NOT NULL, failed INTEGER NOT NULL, order_id TEXT NOT NULL, attributes TEXT NOT NULL,
    PRIMARY KEY (trace, span)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS span_of_order ON span (order_id) WHERE order_id <> '';
CREATE INDEX IF NOT EXISTS span_started ON span (started);
CREATE TABLE IF NOT EXISTS alert (
    id INTEGER PRIMARY KEY, received INTEGER NOT NULL, status TEXT NOT NULL, name TEXT NOT NULL, severity TEXT NOT NULL,
    summary TEXT NOT NULL, labels TEXT NOT NULL, started TEXT NOT NULL);
"""

_MOST_SPANS = 500_000
_MOST_ALERTS = 10_000
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work within a trace; times in nanoseconds."""

    trace: str
    span: str
    parent: str
    name: str
    unit: str
    started: int
    nanoseconds: int
    failed: bool
    order_id: str
    attributes: Mapping[str, Any]


class IntakeStore:
    """One file; each call opens it for itself, since calls come from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(open_file(self._path)) as connection:
            connection.executescript(_SCHEMA)

    def add_spans(self, spans: Iterable[Span]) -> None:
        """Keep spans; one that comes again is kept once."""
        rows = [
            (
                span.trace, span.span, span.parent, span.name, span.unit, span.started, span.nanoseconds, span.failed,
                span.order_id, json.dumps(span.attributes),
            )
            for span in spans
        ]  # fmt: skip
        with closing(open_file(self._path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO span VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")

    def add_alerts(self, received_ms: int, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Keep what Alertmanager told."""
        rows = [
            (
                received_ms,
                str(alert["status"]),
                str(alert["labels"].get("alertname", "")),
                str(alert["labels"].get("severity", "")),
                str(alert.get("annotations", {}).get("summary", "")),
                json.dumps(alert["labels"]),
                str(alert.get("startsAt", "")),
            )
            for alert in alerts
        ]
        with closing(open_file(self._path)) as connection:
            connection.executemany(
                "INSERT INTO alert (received, status, name, severity, summary, labels, started) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def forget(self, before_ms: int) -> None:
        """Drop what is older than a moment, and the oldest beyond the limits."""
        with closing(open_file(self._path)) as connection:
            connection.execute("DELETE FROM span WHERE started < ?", (before_ms * 1_000_000,))
            connection.execute(
                "DELETE FROM span WHERE started < (SELECT started FROM span ORDER BY started DESC LIMIT 1 OFFSET ?)",
                (_MOST_SPANS,),
            )
            connection.execute("DELETE FROM alert WHERE received < ?", (before_ms,))
            connection.execute(
                "DELETE FROM alert WHERE id <= (SELECT id FROM alert ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (_MOST_ALERTS,),
            )

    def alerts(self) -> list[dict[str, Any]]:
        """The last alerts that were raised or resolved, newest first."""
        return self._rows("SELECT * FROM alert ORDER BY id DESC LIMIT 100", ())

    def trace(self, trace: str) -> list[dict[str, Any]]:
        """The spans of one trace, in order."""
        return self._rows("SELECT * FROM span WHERE trace = ? ORDER BY started LIMIT ?", (trace, _SHOWN))

    def traces_of_order(self, order_id: str) -> list[dict[str, Any]]:
        """The traces that an order was met in, oldest first, with their number of spans and the units that had a part, as one text."""
        return self._rows(
            "SELECT trace, min(started) AS started, count(*) AS spans, max(failed) AS failed,"
            " replace(group_concat(DISTINCT unit), ',', ', ') AS units FROM span WHERE trace IN"
            " (SELECT trace FROM span WHERE order_id = ?) GROUP BY trace ORDER BY started LIMIT ?",
            (order_id, _SHOWN),
        )

    def _rows(self, query: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        with closing(open_file(self._path)) as connection:
            return [dict(row) for row in connection.execute(query, parameters)]
