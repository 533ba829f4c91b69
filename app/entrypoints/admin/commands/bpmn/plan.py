"""Which processes of the bundle the engine does not have yet."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.zeebe.process_definitions import ProcessDefinition, read_definitions
from app.contracts.loader import load_processes
from app.entrypoints.admin.outcome import Outcome, planned
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """List processes whose content was never deployed; exit 3 when there are any."""
    session: Session = context.obj
    return planned([f"deploy {item.file.name}" for item in asyncio.run(_undeployed(session))])


async def _undeployed(session: Session) -> list[ProcessDefinition]:
    definitions = read_definitions(session.bundled("bpmn"), load_processes())
    async with session.database() as connection:
        if not await has_table(connection, "process_deployment"):
            return definitions
        deployed = await ProcessDeployments(connection).deployed()
    return [item for item in definitions if (item.process_id, item.content_sha256) not in deployed]
