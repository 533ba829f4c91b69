"""Gives the engine the bundle's processes, after the workers that serve them are seen alive."""

from __future__ import annotations

import asyncio

import typer

from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.zeebe.process_definitions import read_definitions
from app.application.operations import OperationError
from app.application.process_versions import serving_problems
from app.contracts.loader import load_processes
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session


class ProcessUnservedError(OperationError):
    """A process emits a job type that no live worker serves; nothing was deployed."""


def command(context: typer.Context) -> Outcome:
    """Deploy processes whose content the engine was never given.

    Judged against live workers only: each job type needs one that knows the process's variable schema, and none of a
    release too old for the process may be left. Nothing is deployed otherwise.
    """
    session: Session = context.obj
    return asyncio.run(_deploy(session))


async def _deploy(session: Session) -> Outcome:
    definitions = read_definitions(session.bundled("bpmn"), load_processes())
    async with session.database() as connection, session.audited(connection, "bpmn deploy") as detail:
        deployments = ProcessDeployments(connection)
        workers = await deployments.live_workers()
        problems = [
            problem
            for item in definitions
            for problem in serving_problems(
                item.file.name, item.job_types, item.variables_schema_version, item.oldest_compatible_worker, workers
            )
        ]
        if problems:
            raise ProcessUnservedError(*problems)
        deployed = await deployments.deployed()
        pending = {
            item.process_id: item for item in definitions if (item.process_id, item.content_sha256) not in deployed
        }
        if not pending:
            return applied([])
        changes = []
        async with session.engine() as engine:
            for answer in await engine.deploy([item.file for item in pending.values()]):
                definition = pending[answer.process_id]
                await deployments.record(definition.as_deployed(answer.version, answer.key, session.release))
                changes.append(f"deploy {definition.file.name} as version {answer.version}")
        detail["changes"] = changes
        return applied(changes)
