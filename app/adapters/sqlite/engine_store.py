"""What is known of the workflow engine from the records it exports: instances, jobs and incidents, with how far was read.

A copy that may be lost: it is read again from the topic. Records and the place behind them are one transaction, so none
is counted twice. Synchronous; used by one thread for writing, and by pages for reading.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.adapters.sqlite.file import open_file

_SCHEMA = """
CREATE TABLE IF NOT EXISTS place (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS instance (
    key INTEGER PRIMARY KEY, process TEXT NOT NULL, version INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER, how TEXT);
CREATE TABLE IF NOT EXISTS job (
    key INTEGER PRIMARY KEY, type TEXT NOT NULL, process TEXT NOT NULL, instance INTEGER NOT NULL, state TEXT NOT NULL,
    since INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS incident (
    key INTEGER PRIMARY KEY, process TEXT NOT NULL, instance INTEGER NOT NULL, element TEXT NOT NULL, message TEXT NOT NULL,
    created INTEGER NOT NULL);
"""
_WAITING, _TAKEN, _EXHAUSTED = "waiting", "taken", "exhausted"

Row = dict[str, Any]
Activated = Callable[[str, float, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """One record with its place in the topic."""

    partition: int
    offset: int
    record: Mapping[str, Any]


class EngineStore:
    """One file.

    Args:
        path: where it is; made when missing.
        on_activated: told of each job that a worker took: its type, how many seconds it had waited, when (ms).
    """

    def __init__(self, path: Path, on_activated: Activated) -> None:
        self._path, self._on_activated = path, on_activated
        with closing(open_file(self._path)) as connection:
            connection.executescript(_SCHEMA)

    def places(self) -> dict[int, int]:
        """The next offset to read of each partition that was read."""
        with closing(open_file(self._path)) as connection:
            return {row["partition"]: row["next"] for row in connection.execute("SELECT partition, next FROM place")}

    def apply(self, records: Iterable[Exported]) -> None:
        """Follow records, in the order of their partition."""
        with closing(open_file(self._path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for exported in records:
                if exported.record.get("recordType") == "EVENT":
                    self._follow(connection, exported.record)
                connection.execute(
                    "INSERT INTO place VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET next = excluded.next",
                    (exported.partition, exported.offset + 1),
                )
            connection.execute("COMMIT")

    def forget(self, before_ms: int) -> None:
        """Drop instances that ended before a moment."""
        with closing(open_file(self._path)) as connection:
            connection.execute("DELETE FROM instance WHERE ended < ?", (before_ms,))

    def versions(self) -> list[Row]:
        """Instances by process and version: active, completed, terminated; oldest active one; incidents."""
        return self._rows(
            "SELECT process, version, count(*) FILTER (WHERE ended IS NULL) AS active,"
            " count(*) FILTER (WHERE how = 'completed') AS completed,"
            " count(*) FILTER (WHERE how = 'terminated') AS terminated,"
            " min(started) FILTER (WHERE ended IS NULL) AS oldest,"
            " (SELECT count(*) FROM incident i WHERE i.process = n.process AND i.instance IN"
            "   (SELECT key FROM instance m WHERE m.process = n.process AND m.version = n.version)) AS incidents"
            " FROM instance n GROUP BY process, version ORDER BY process, version"
        )

    def jobs(self) -> list[Row]:
        """Open jobs by type: waiting, taken, exhausted, and since when the oldest waits."""
        return self._rows(
            "SELECT type, count(*) FILTER (WHERE state = 'waiting') AS waiting,"
            " count(*) FILTER (WHERE state = 'taken') AS taken, count(*) FILTER (WHERE state = 'exhausted') AS exhausted,"
            " min(since) FILTER (WHERE state = 'waiting') AS oldest FROM job GROUP BY type ORDER BY type"
        )

    def incidents(self) -> list[Row]:
        """Incidents that are open, newest first."""
        return self._rows("SELECT * FROM incident ORDER BY created DESC LIMIT 200")

    def _rows(self, query: str) -> list[Row]:
        with closing(open_file(self._path)) as connection:
            return [dict(row) for row in connection.execute(query)]

    def _follow(self, connection: sqlite3.Connection, record: Mapping[str, Any]) -> None:
        kind, intent, value = record["valueType"], record["intent"], record["value"]
        key, at = record["key"], record["timestamp"]
        if kind == "PROCESS_INSTANCE" and value["bpmnElementType"] == "PROCESS":
            self._instance(connection, intent, value, at)
        elif kind == "JOB":
            self._job(connection, intent, key, value, at)
        elif kind == "JOB_BATCH" and intent == "ACTIVATED":
            for taken in value["jobKeys"]:
                waiting = connection.execute("SELECT type, since FROM job WHERE key = ?", (taken,)).fetchone()
                if waiting:
                    self._on_activated(waiting["type"], max(0, at - waiting["since"]) / 1000, at)
                connection.execute("UPDATE job SET state = ?, since = ? WHERE key = ?", (_TAKEN, at, taken))
        elif kind == "INCIDENT" and intent == "CREATED":
            connection.execute(
                "INSERT OR REPLACE INTO incident VALUES (?, ?, ?, ?, ?, ?)",
                (
                    key,
                    value["bpmnProcessId"],
                    value["processInstanceKey"],
                    value["elementId"],
                    value["errorMessage"],
                    at,
                ),
            )
        elif kind == "INCIDENT" and intent == "RESOLVED":
            connection.execute("DELETE FROM incident WHERE key = ?", (key,))

    @staticmethod
    def _instance(connection: sqlite3.Connection, intent: str, value: Mapping[str, Any], at: int) -> None:
        key = value["processInstanceKey"]
        if intent == "ELEMENT_ACTIVATED":
            connection.execute(
                "INSERT OR IGNORE INTO instance VALUES (?, ?, ?, ?, NULL, NULL)",
                (key, value["bpmnProcessId"], value["version"], at),
            )
        elif intent in {"ELEMENT_COMPLETED", "ELEMENT_TERMINATED"}:
            how = intent.removeprefix("ELEMENT_").lower()
            connection.execute("UPDATE instance SET ended = ?, how = ? WHERE key = ?", (at, how, key))
            connection.execute("DELETE FROM job WHERE instance = ?", (key,))
            connection.execute("DELETE FROM incident WHERE instance = ?", (key,))

    @staticmethod
    def _job(connection: sqlite3.Connection, intent: str, key: int, value: Mapping[str, Any], at: int) -> None:
        if intent == "CREATED":
            connection.execute(
                "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?)",
                (key, value["type"], value["bpmnProcessId"], value["processInstanceKey"], _WAITING, at),
            )
        elif intent in {"COMPLETED", "CANCELED", "ERROR_THROWN"}:
            connection.execute("DELETE FROM job WHERE key = ?", (key,))
        elif intent in {"FAILED", "TIMED_OUT", "RETRIES_UPDATED", "RECURRED_AFTER_BACKOFF"}:
            state = _WAITING if value.get("retries", 1) > 0 else _EXHAUSTED
            connection.execute("UPDATE job SET state = ?, since = ? WHERE key = ?", (state, at, key))
