"""The checks before a release changes anything."""

from __future__ import annotations

import asyncio

import typer

from app.entrypoints.admin import measuring
from app.entrypoints.admin.outcome import Outcome, judged
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Judge DB, Kafka, Camunda and Redis health, current error rate, outbox backlog, incident and fallout count.

    Reads limits and targets of the inventory from standard input; release.yml gives them.
    """
    session: Session = context.obj
    return judged(asyncio.run(measuring.prechecks(session, session.given(measuring.Surroundings))))
