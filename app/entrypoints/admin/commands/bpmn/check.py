"""Whether what the bundle's processes and those that orders can still reach ask for has workers in this bundle."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from app.adapters.zeebe.process_definitions import misunderstood, read_definitions, unserved
from app.application.process_versions import ReachedProcess, dropped, in_use
from app.contracts.loader import DIRECTORY, load_job_types, load_processes
from app.entrypoints.admin.commands.bpmn.served import environment
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import InputError, Session


class _Environment(BaseModel):
    """What `bpmn served` said; nothing where it could not say anything, as before a first release."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    job_types: tuple[str, ...] = ()
    reached: tuple[ReachedProcess, ...] = ()


def command(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle to judge, by its bpmn/ and contracts/, instead of this installation.")
    ] = None,
    bundle_only: Annotated[bool, typer.Option(help="Ask no database: judge by the bundle. Needs no settings.")] = False,
    given: Annotated[
        bool, typer.Option("--given", help="Judge by the bundle and the data of `bpmn served` on standard input.")
    ] = False,
    only_in_use: Annotated[
        bool,
        typer.Option("--in-use", help="For a way back that live data allowed: pass over processes that no order has."),
    ] = False,
) -> Outcome:
    """Refuse a process with a job type that neither this bundle nor a live worker serves, and a bundle that drops one.

    Refused is also a process whose version of variables this bundle's workers do not understand. Dropped are job types and versions of variables that a deployed process asks for, while a route or an order's
    instance can still reach it, and that this bundle's workers do not serve.
    """
    session: Session = context.obj
    contracts = DIRECTORY if bundle is None else bundle / "contracts"
    definitions = read_definitions(
        session.bundled("bpmn") if bundle is None else bundle / "bpmn", load_processes(contracts)
    )
    contract = load_job_types(contracts)
    bundled, versions = set(contract.job_types), set(contract.variables_schema_versions)
    around = _around(session, bundle_only=bundle_only, given=given)
    data = {
        "bundled": sorted(bundled),
        "live": sorted(around.job_types),
        "reached": [asdict(process) for process in around.reached],
        "processes": [item.process_id for item in definitions],
    }
    problems = [
        *unserved(definitions, bundled | set(around.job_types)),
        *misunderstood(definitions, versions),
        *dropped(in_use(around.reached) if only_in_use else around.reached, bundled, versions),
    ]
    return failed(problems, data) if problems else Outcome(data=data)


def _around(session: Session, *, bundle_only: bool, given: bool) -> _Environment:
    if given:
        return _read(session.input())
    if bundle_only:
        return _Environment()
    return _read(asyncio.run(environment(session)))


def _read(document: Any) -> _Environment:
    try:
        return _Environment.model_validate(document)
    except ValidationError as error:
        raise InputError(f"this is not the data of `bpmn served`: {error.errors()[0]['msg']}") from error
