"""Live workers in PostgreSQL: the release asks here whether every job type is served."""

from __future__ import annotations

from dataclasses import asdict
from typing import LiteralString

from app.adapters.postgres.pool import Pool
from app.adapters.postgres.unit_of_work import translated_errors
from app.application.ports import WorkerRegistration

# The registration is written anew if somebody removed it: a worker that lives must be seen to live.
_ANNOUNCE = """
    INSERT INTO cpq.worker_registration (
        instance_id, worker_group, job_types, variables_schema_version, release_id, started_at, heartbeat_at
    ) VALUES (
        %(instance_id)s, %(worker_group)s, %(job_types)s, %(variables_schema_version)s, %(release_id)s,
        %(started_at)s, now()
    )
    ON CONFLICT (instance_id) DO UPDATE SET
        worker_group = excluded.worker_group, job_types = excluded.job_types,
        variables_schema_version = excluded.variables_schema_version, release_id = excluded.release_id,
        started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at
    WHERE worker_registration.started_at <= excluded.started_at
"""
_REMOVE = """
    DELETE FROM cpq.worker_registration WHERE instance_id = %(instance_id)s AND started_at = %(started_at)s
"""


class PostgresWorkerRegistrations:
    """See `app.application.ports.WorkerRegistrations`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def announce(self, registration: WorkerRegistration) -> None:
        await self._execute(_ANNOUNCE, registration)

    async def remove(self, registration: WorkerRegistration) -> None:
        await self._execute(_REMOVE, registration)

    async def _execute(self, statement: LiteralString, registration: WorkerRegistration) -> None:
        values = {**asdict(registration), "job_types": list(registration.job_types)}
        with translated_errors():
            async with self._pool.connection() as connection:
                await connection.execute(statement, values)
