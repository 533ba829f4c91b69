"""Where an environment's services differ from what this release declares."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.entrypoints.admin.outcome import EXIT_DRIFT, EXIT_FAILED, Outcome
from app.entrypoints.admin.planes import look
from app.entrypoints.admin.wiring import Session


def command(
    context: typer.Context,
    brokers: Annotated[
        int | None,
        typer.Option(min=1, help="Kafka brokers of this environment (default: as many as the settings name)."),
    ] = None,
    demo_catalog: Annotated[
        bool, typer.Option("--demo-catalog", help="The environment publishes the demo catalog; hold it to that.")
    ] = False,
) -> Outcome:
    """Compare schema, grants, migrations, topics, groups, cache, processes, workers, flags and catalogs; exit 3 when any differs.

    Changes nothing. A plane that could not be looked at is a failure by its name: exit 1, unless something differs.
    """
    session: Session = context.obj
    count = brokers or len(session.settings.kafka_bootstrap_servers)
    seen = asyncio.run(look(session, count, demo_catalog=demo_catalog))
    changes = [f"{one.plane}: {one.item}: expected {one.expected}, found {one.found}" for one in seen.found]
    problems = [f"{plane} was not seen: {reason}" for plane, reason in seen.unseen.items()]
    exit_code = EXIT_DRIFT if changes else EXIT_FAILED if problems else 0
    return Outcome(changes=changes, problems=problems, data=seen.data, exit_code=exit_code)
