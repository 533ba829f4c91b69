"""How the servers of a canary do beside the others."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from app.adapters.http.unit_metrics import look
from app.application.canary.judgement import Compared, Unmeasured
from app.application.canary.measurement import of_servers
from app.contracts.loader import load_canary_measures
from app.entrypoints.admin.canary_input import Servers
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import InputError, Session


def command(context: typer.Context) -> Outcome:
    """Observe both sides of the API's servers for a time; what was measured is input of release canary judge. Reads only.

    Standard input: {"targets": [...], "canary_hosts": [names of API hosts], "observation_seconds": n}.
    """
    session: Session = context.obj
    return asyncio.run(_observe(session.given(Servers)))


async def _observe(given: Servers) -> Outcome:
    before = after = await look(given.targets)
    if given.canary_hosts:
        await asyncio.sleep(given.observation_seconds)
        after = await look(given.targets)
    try:
        measured = of_servers(load_canary_measures(), given.targets, given.canary_hosts, before, after)
    except ValueError as error:
        raise InputError(str(error)) from error
    report = "".join(f"{name}: {_said(found)}\n" for name, found in measured.items())
    return Outcome(data={"measured": {name: asdict(found) for name, found in measured.items()}}, report=report)


def _said(found: Compared | Unmeasured) -> str:
    if isinstance(found, Unmeasured):
        return found.reason
    return f"{found.canary} by the canary, {found.control} by the others"
