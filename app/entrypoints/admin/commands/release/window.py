"""The monitoring window after a release."""

from __future__ import annotations

import asyncio

import typer

from app.entrypoints.admin import measuring
from app.entrypoints.admin.outcome import Outcome, judged
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Judge sample after sample, and end early when too many are bad.

    Reads limits, targets and the window's rule from standard input; release.yml gives them.
    """
    session: Session = context.obj
    return judged(asyncio.run(measuring.window(session.given(measuring.Surroundings))))
