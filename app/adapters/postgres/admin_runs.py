"""The audit of operators' commands: a row is committed before a command touches anything, and closed with its outcome."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection

_SQL = NamedBlocks("admin_runs")


class AdminRuns:
    """Rows of cpq.admin_run."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def exists(self) -> bool:
        """Tell whether the audit table is there: the first migration run of an environment comes before it."""
        return await has_table(self._connection, "admin_run")

    async def open(self, run_id: UUID, command: str, operator: str, reason: str | None) -> None:
        """Commit that the command starts."""
        values = {"run_id": run_id, "command": command, "operator": operator, "reason": reason}
        await self._connection.execute(_SQL["open"], values)

    async def close(self, run_id: UUID, *, succeeded: bool, detail: dict[str, Any]) -> None:
        """Commit how it ended."""
        values = {"run_id": run_id, "outcome": _outcome(succeeded=succeeded), "detail": Jsonb(detail)}
        await self._connection.execute(_SQL["close"], values)

    async def record(
        self, run_id: UUID, command: str, operator: str, reason: str | None, *, succeeded: bool, detail: dict[str, Any]
    ) -> None:
        """Write a finished run at once: only for the run that created the table."""
        values = {"run_id": run_id, "command": command, "operator": operator, "reason": reason}
        values |= {"outcome": _outcome(succeeded=succeeded), "detail": Jsonb(detail)}
        await self._connection.execute(_SQL["record"], values)


def _outcome(*, succeeded: bool) -> str:
    return "succeeded" if succeeded else "failed"
