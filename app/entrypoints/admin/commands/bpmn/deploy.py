"""Gives the engine the bundle's processes, after the workers that serve them are seen alive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import typer

from app.adapters.postgres.process_deployments import LiveWorker, ProcessDeployment, ProcessDeployments
from app.adapters.zeebe.process_definitions import ProcessDefinition, is_older, read_definitions
from app.application.operations import OperationError
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
        problems = _unserved_alive(definitions, await deployments.live_workers())
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
                await deployments.record(
                    ProcessDeployment(
                        process_id=answer.process_id,
                        content_sha256=definition.content_sha256,
                        engine_version=answer.version,
                        engine_key=answer.key,
                        job_types=list(definition.job_types),
                        variables_schema_version=definition.variables_schema_version,
                        compatible_worker_release=definition.oldest_compatible_worker,
                        git_commit=session.release.git_commit,
                        release_id=session.release.release_id,
                    )
                )
                changes.append(f"deploy {definition.file.name} as version {answer.version}")
        detail["changes"] = changes
        return applied(changes)


def _unserved_alive(definitions: Sequence[ProcessDefinition], workers: Sequence[LiveWorker]) -> list[str]:
    problems = []
    for definition in definitions:
        for job_type in definition.job_types:
            serving = [worker for worker in workers if job_type in worker.job_types]
            if not serving:
                problems.append(f"job type {job_type} of {definition.file.name} is served by no live worker")
            elif all(worker.variables_schema_version < definition.variables_schema_version for worker in serving):
                problems.append(
                    f"job type {job_type} of {definition.file.name} needs variables schema "
                    f"{definition.variables_schema_version}; live workers know "
                    f"{max(worker.variables_schema_version for worker in serving)}"
                )
            else:
                problems += [
                    f"job type {job_type} of {definition.file.name} is served by {worker.instance_id} of "
                    f"{worker.release_id}, older than {definition.oldest_compatible_worker}"
                    for worker in serving
                    if is_older(worker.release_id, definition.oldest_compatible_worker)
                ]
    return problems
