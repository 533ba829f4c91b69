"""What the external systems really did and were asked, on disk: the evidence that an effect happened once."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from app.runtime.clock import Clock
from app.runtime.ids import Ids

_SCHEMA = """
CREATE TABLE IF NOT EXISTS performed (
    reference TEXT PRIMARY KEY,
    system TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    order_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    performed_at TEXT NOT NULL,
    finishes_at TEXT,
    finishes_as TEXT NOT NULL,
    callbacks TEXT NOT NULL,
    callback_url TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS performed_by_key ON performed (system, idempotency_key);
CREATE INDEX IF NOT EXISTS performed_by_order ON performed (order_id);
CREATE INDEX IF NOT EXISTS performed_by_time ON performed (system, performed_at);
CREATE TABLE IF NOT EXISTS request (
    request_id INTEGER PRIMARY KEY,
    system TEXT NOT NULL,
    method TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    mode TEXT NOT NULL,
    arrived_at TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS callback (
    delivery_id INTEGER PRIMARY KEY,
    callback_id TEXT NOT NULL,
    system TEXT NOT NULL,
    order_id TEXT NOT NULL,
    url TEXT NOT NULL,
    outcome TEXT NOT NULL,
    answer TEXT NOT NULL,
    sent_at TEXT NOT NULL
) STRICT;
"""

State = Literal["accepted", "done", "failed"]


class KeyReused(Exception):  # noqa: N818 - a refusal of the modelled system, not a fault of this program
    """The idempotency key came before with another request."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How accepted work goes on: when it ends and how, which callbacks are sent where."""

    finishes_at: datetime
    finishes_as: Literal["done", "failed"]
    callbacks: str
    callback_url: str | None


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing an external system did, or has accepted to do."""

    system: str
    idempotency_key: str
    reference: str
    order_id: str
    tenant_id: str
    request: dict[str, Any]
    state: State
    performed_at: str
    plan: Plan | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON shape, the same from the systems and from the ledger."""
        return {
            "id": self.reference,
            "system": self.system,
            "idempotencyKey": self.idempotency_key,
            "orderId": self.order_id,
            "tenantId": self.tenant_id,
            "request": self.request,
            "state": self.state,
            "performedAt": self.performed_at,
        }


class Ledger:
    """Effects, requests and callbacks in SQLite. Calls take well under a millisecond, so they run in the event loop."""

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

    def perform(
        self, system: str, key: str, request: dict[str, Any], plan: Plan | None = None, *, again: bool = False
    ) -> tuple[Effect, bool]:
        """Do the work once per key; return the effect and whether it is new.

        Args:
            system: who works.
            key: the idempotency key.
            request: what is asked for.
            plan: how it goes on when it is only accepted now.
            again: do it even if it was done.

        Raises:
            KeyReused: the key came before with another request.
        """
        done = None if again else self.find(system, key)
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
            state="done" if plan is None else "accepted",
            performed_at=self._clock.now().isoformat(),
            plan=plan,
        )
        self._database.execute(
            "INSERT INTO performed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                effect.reference, system, key, effect.order_id, effect.tenant_id, json.dumps(request, sort_keys=True),
                effect.state, effect.performed_at,
                None if plan is None else plan.finishes_at.isoformat(),
                "done" if plan is None else plan.finishes_as,
                "none" if plan is None else plan.callbacks,
                None if plan is None else plan.callback_url,
            ),
        )  # fmt: skip
        return effect, True

    def finish(self, effect: Effect) -> Effect:
        """End accepted work as planned; return how it ended."""
        self._database.execute(
            "UPDATE performed SET state = finishes_as, finishes_at = NULL WHERE reference = ? AND state = 'accepted'",
            (effect.reference,),
        )
        row = self._database.execute("SELECT * FROM performed WHERE reference = ?", (effect.reference,)).fetchone()
        return _effect(row)

    def unfinished(self) -> list[Effect]:
        """Return accepted work that has not ended, after a restart for example."""
        return [_effect(row) for row in self._database.execute("SELECT * FROM performed WHERE state = 'accepted'")]

    def find(self, system: str, key: str) -> Effect | None:
        """Return what was done first under the key, or None."""
        row = self._database.execute(
            "SELECT * FROM performed WHERE system = ? AND idempotency_key = ? ORDER BY performed_at, reference LIMIT 1",
            (system, key),
        ).fetchone()
        return None if row is None else _effect(row)

    def since(self, system: str, moment: datetime, limit: int) -> list[Effect]:
        """Return what a system did from a moment on, oldest first, at most `limit`."""
        rows = self._database.execute(
            "SELECT * FROM performed WHERE system = ? AND performed_at >= ? ORDER BY performed_at, reference LIMIT ?",
            (system, moment.isoformat(), limit),
        )
        return [_effect(row) for row in rows]

    def effects(self, order_id: str | None = None) -> list[Effect]:
        """Return everything done, or what was done for one order, oldest first."""
        rows = self._database.execute(
            "SELECT * FROM performed WHERE :order IS NULL OR order_id = :order ORDER BY performed_at",
            {"order": order_id},
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

    def delivered(self, callback_id: str, effect: Effect, url: str, outcome: str, answer: str) -> None:
        """Note a callback that was sent, and what was answered."""
        self._database.execute(
            "INSERT INTO callback (callback_id, system, order_id, url, outcome, answer, sent_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (callback_id, effect.system, effect.order_id, url, outcome, answer, self._clock.now().isoformat()),
        )

    def callbacks(self, order_id: str | None = None) -> list[dict[str, Any]]:
        """Return the callbacks sent, or those of one order, oldest first."""
        rows = self._database.execute(
            "SELECT callback_id, system, order_id, url, outcome, answer, sent_at FROM callback "
            "WHERE :order IS NULL OR order_id = :order ORDER BY delivery_id",
            {"order": order_id},
        )
        names = ("callbackId", "system", "orderId", "url", "outcome", "answer", "sentAt")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def plan(
        self, after: timedelta, finishes_as: Literal["done", "failed"], callbacks: str, callback_url: str | None
    ) -> Plan:
        """Plan the end of work that is accepted now."""
        return Plan(self._clock.now() + after, finishes_as, callbacks, callback_url)


def _effect(row: tuple[Any, ...]) -> Effect:
    reference, system, key, order_id, tenant_id, request, state, performed_at, *planned = row
    finishes_at, finishes_as, callbacks, callback_url = planned
    plan = None if finishes_at is None else Plan(
        datetime.fromisoformat(finishes_at), finishes_as, callbacks, callback_url
    )  # fmt: skip
    return Effect(system, key, reference, order_id, tenant_id, json.loads(request), state, performed_at, plan)
