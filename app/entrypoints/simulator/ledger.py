"""What the external systems really did and were asked, on disk: the evidence that an effect happened once."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.runtime.clock import Clock
from app.runtime.ids import Ids

_SCHEMA = """
CREATE TABLE IF NOT EXISTS effect (
    system TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    reference TEXT NOT NULL,
    order_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    request TEXT NOT NULL,
    performed_at TEXT NOT NULL,
    PRIMARY KEY (system, idempotency_key)
) STRICT;
CREATE INDEX IF NOT EXISTS effect_by_order ON effect (order_id);
CREATE TABLE IF NOT EXISTS request (
    request_id INTEGER PRIMARY KEY,
    system TEXT NOT NULL,
    method TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    mode TEXT NOT NULL,
    arrived_at TEXT NOT NULL
) STRICT;
"""


class KeyReused(Exception):  # noqa: N818 - a refusal of the modelled system, not a fault of this program
    """The idempotency key came before with another request."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing an external system did."""

    system: str
    idempotency_key: str
    reference: str
    order_id: str
    tenant_id: str
    request: dict[str, Any]
    performed_at: str

    def document(self) -> dict[str, Any]:
        """Return the JSON shape, the same from the systems and from the ledger."""
        return {
            "id": self.reference,
            "system": self.system,
            "idempotencyKey": self.idempotency_key,
            "orderId": self.order_id,
            "tenantId": self.tenant_id,
            "request": self.request,
            "performedAt": self.performed_at,
        }


class Ledger:
    """Effects and requests in SQLite. Calls take well under a millisecond, so they run in the event loop."""

    def __init__(self, path: Path, clock: Clock, ids: Ids) -> None:
        """Open or create the ledger.

        Raises:
            sqlite3.Error: the file is no ledger, or cannot be written.
        """
        self._clock = clock
        self._ids = ids
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def arrived(self, system: str, method: str, key: str, mode: str) -> None:
        """Note that a request arrived, before anything is done with it."""
        self._database.execute(
            "INSERT INTO request (system, method, idempotency_key, mode, arrived_at) VALUES (?, ?, ?, ?, ?)",
            (system, method, key, mode, self._clock.now().isoformat()),
        )

    def perform(self, system: str, key: str, request: dict[str, Any]) -> tuple[Effect, bool]:
        """Do the work once per key; return the effect and whether it is new.

        Raises:
            KeyReused: the key came before with another request.
        """
        done = self.find(system, key)
        if done is not None:
            if done.request != request:
                raise KeyReused
            return done, False
        effect = Effect(
            system=system,
            idempotency_key=key,
            reference=f"{system}-{self._ids.new()}",
            order_id=str(request["orderId"]),
            tenant_id=str(request["tenantId"]),
            request=request,
            performed_at=self._clock.now().isoformat(),
        )
        self._database.execute(
            "INSERT INTO effect VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                system, key, effect.reference, effect.order_id, effect.tenant_id,
                json.dumps(request, sort_keys=True), effect.performed_at,
            ),
        )  # fmt: skip
        return effect, True

    def find(self, system: str, key: str) -> Effect | None:
        """Return what was done under the key, or None."""
        row = self._database.execute(
            "SELECT * FROM effect WHERE system = ? AND idempotency_key = ?", (system, key)
        ).fetchone()
        return None if row is None else _effect(row)

    def effects(self, order_id: str | None = None) -> list[Effect]:
        """Return everything done, or what was done for one order, oldest first."""
        rows = self._database.execute(
            "SELECT * FROM effect WHERE :order IS NULL OR order_id = :order ORDER BY performed_at", {"order": order_id}
        )
        return [_effect(row) for row in rows]

    def requests(self, key: str | None = None) -> list[dict[str, Any]]:
        """Return the requests as they arrived, or those with one key."""
        rows = self._database.execute(
            "SELECT system, method, idempotency_key, mode, arrived_at FROM request "
            "WHERE :key IS NULL OR idempotency_key = :key ORDER BY request_id",
            {"key": key},
        )
        names = ("system", "method", "idempotencyKey", "mode", "arrivedAt")
        return [dict(zip(names, row, strict=True)) for row in rows]


def _effect(row: tuple[Any, ...]) -> Effect:
    system, key, reference, order_id, tenant_id, request, performed_at = row
    return Effect(system, key, reference, order_id, tenant_id, json.loads(request), performed_at)
