"""Live workers in PostgreSQL: the release asks here whether every job type is served."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Pool
from app.adapters.postgres.unit_of_work import translated_errors
from app.application.ports import WorkerRegistration

_SQL = NamedBlocks("worker_registrations")


class PostgresWorkerRegistrations:
    """See `app.application.ports.WorkerRegistrations`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def announce(self, registration: WorkerRegistration) -> None:
        await self._execute("announce", registration)

    async def remove(self, registration: WorkerRegistration) -> None:
        await self._execute("remove", registration)

    async def jobs_left_behind(self, instance_id: str, within: timedelta) -> list[tuple[int, int]]:
        """Keys and retries of jobs that a former life of this instance took lately and held when it died.

        Ask before the registration is announced: the former life's is the proof.
        """
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    _SQL["jobs_left_behind"], {"instance_id": instance_id, "within": within}
                )
                return [(row["job_key"], row["retries"]) for row in await cursor.fetchall()]

    async def open_fallout(self) -> dict[str, int]:
        """How many fallout cases of all tenants wait for a person, by step."""
        with translated_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SQL["open_fallout"])
                return {row["step"]: row["cases"] for row in await cursor.fetchall()}

    async def _execute(self, block: str, registration: WorkerRegistration) -> None:
        values = {
            **asdict(registration),
            "job_types": list(registration.job_types),
            "variables_schema_versions": list(registration.variables_schema_versions),
        }
        with translated_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_SQL[block], values)
