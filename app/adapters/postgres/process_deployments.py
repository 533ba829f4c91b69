"""Which BPMN content the engine was given, by which release, and which workers are alive to serve its job types."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.application.process_versions import LiveWorker, ProcessDeployment

_SQL = NamedBlocks("process_deployments")

# Several heartbeats: one that is late does not make a worker dead.
_HEARD_WITHIN = timedelta(seconds=60)


class ProcessDeployments:
    """Rows of cpq.process_deployment and cpq.worker_registration."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def deployed(self) -> set[tuple[str, str]]:
        """Pairs of process id and content hash that the engine has."""
        rows = await (await self._connection.execute(_SQL["deployed"])).fetchall()
        return {(row["process_id"], row["content_sha256"]) for row in rows}

    async def all(self) -> list[ProcessDeployment]:
        """Every content of every process version, the engine's newest last."""
        cursor = await self._connection.execute(_SQL["all"])
        return [ProcessDeployment(**row) for row in await cursor.fetchall()]

    async def record(self, deployment: ProcessDeployment) -> None:
        """Write what the engine answered."""
        await self._connection.execute(_SQL["record"], asdict(deployment))

    async def live_workers(self) -> list[LiveWorker]:
        """Workers heard of within the last minute; none before the first migration."""
        if not await has_table(self._connection, "worker_registration"):
            return []
        # A release plans before it migrates: the new commands meet the old schema.
        block = "live_workers" if await has_table(self._connection, "process_route") else "live_workers_of_older_schema"
        cursor = await self._connection.execute(_SQL[block], {"heard_within": _HEARD_WITHIN})
        return [LiveWorker(**row) for row in await cursor.fetchall()]
