"""Circuit breakers and rate limits of external systems in PostgreSQL: one row for each, one round trip per question."""

from __future__ import annotations

from datetime import timedelta

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool
from app.adapters.postgres.unit_of_work import translated_errors
from app.application.ports import CallAdmitted, CallHealth, CallHeldBack
from app.contracts.loader import ExternalSystemPolicy

_SQL = NamedBlocks("external_guard")

# How much longer than its time a call may be out before it is taken for lost with its process.
_MARGIN = timedelta(seconds=5)


class PostgresExternalCallGuard:
    """See `app.application.ports.ExternalCallGuard`."""

    def __init__(self, pool: Pool, system: str, policy: ExternalSystemPolicy) -> None:
        self._pool = pool
        limit, breaker = policy.rate_limit, policy.circuit_breaker
        self._admission = {
            "system": system,
            "call_interval": limit.interval,
            "burst": limit.burst,
            "unproven_limit": breaker.unproven_calls,
            "patience": policy.timeout + _MARGIN,
        }
        self._settlement = {"system": system, "failure_limit": breaker.failures, "open_for": breaker.open_for}

    async def admit(self) -> CallAdmitted | CallHeldBack:
        with translated_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_SQL["admit"], self._admission)).fetchone()
        if row is None:
            raise LookupError("a function without a row")
        if row["verdict"] == "admitted":
            return CallAdmitted(row["call_generation"], row["must_report"])
        return CallHeldBack(row["verdict"], row["retry_after"])

    async def settle(
        self, admitted: CallAdmitted, health: CallHealth, *, error: str | None, hold_for: timedelta | None
    ) -> str:
        values = {
            **self._settlement,
            "generation": admitted.generation,
            "outcome": health,
            "hold_for": hold_for,
            "error": error,
        }
        with translated_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_SQL["settle"], values)).fetchone()
        if row is None:
            raise LookupError("a function without a row")
        return str(row["state"])
