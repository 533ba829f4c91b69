"""Which BPMN content the engine was given, by which release, and which workers are alive to serve its job types."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("process_deployments")

# Several heartbeats: one that is late does not make a worker dead.
_HEARD_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True)
class ProcessDeployment:
    """One row of cpq.process_deployment."""

    process_id: str
    content_sha256: str
    engine_version: int
    engine_key: int
    job_types: list[str]
    variables_schema_version: int
    compatible_worker_release: str
    git_commit: str
    release_id: str


@dataclass(frozen=True)
class LiveWorker:
    """A worker process that sent its heartbeat lately."""

    instance_id: str
    worker_group: str
    job_types: list[str]
    variables_schema_version: int
    release_id: str


class ProcessDeployments:
    """Rows of cpq.process_deployment and cpq.worker_registration."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def deployed(self) -> set[tuple[str, str]]:
        """Pairs of process id and content hash that the engine has."""
        rows = await (await self._connection.execute(_SQL["deployed"])).fetchall()
        return {(row["process_id"], row["content_sha256"]) for row in rows}

    async def record(self, deployment: ProcessDeployment) -> None:
        """Write what the engine answered."""
        await self._connection.execute(_SQL["record"], asdict(deployment))

    async def live_workers(self) -> list[LiveWorker]:
        """Workers heard of within the last minute; none before the first migration."""
        if not await has_table(self._connection, "worker_registration"):
            return []
        cursor = await self._connection.execute(_SQL["live_workers"], {"heard_within": _HEARD_WITHIN})
        return [LiveWorker(**row) for row in await cursor.fetchall()]
