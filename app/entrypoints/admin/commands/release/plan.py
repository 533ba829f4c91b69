"""What a release would change, in which order and why, whether it may, and whether there is a way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.application.release_plan.described import Applied, Bundle, Live, Surroundings
from app.application.release_plan.model import Plan
from app.application.release_plan.planner import plan
from app.contracts.loader import load_release_steps
from app.entrypoints.admin.outcome import EXIT_DRIFT, EXIT_FAILED, Outcome
from app.entrypoints.admin.plan_input import read_bundle, read_environment
from app.entrypoints.admin.plan_text import text
from app.entrypoints.admin.wiring import InputError, Session


def command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Option(help="The bundle that is to be released: its folder.")],
    previous: Annotated[
        Path | None, typer.Option(help="The bundle that is taken for what is live, instead of an input.")
    ] = None,
) -> Outcome:
    """Plan a release: changes by kind, compatibility both ways, ordered steps with reasons, way back, runbook.

    Without --previous, standard input says what is live: {"installed": {release id: {part: {file: text}}}, "units": {unit:
    [release ids]}, "given": {unit: [names of settings]}, "live": data of `release live`, "hosts": {tier: [hosts]}, "differs":
    [hosts], "owner", "window", "approvers", "way_back_to": release that `release verdict` allowed}; all but `installed` may be left out. Exit 0 nothing differs, 3 something does,
    1 the order rules refuse it.
    """
    session: Session = context.obj
    try:
        mine = read_bundle(bundle)
        if previous is not None:
            live, around = _as_live(read_bundle(previous), session.operator)
        else:
            live, around = read_environment(session.input(), session.operator)
        made = plan(mine, live, around, load_release_steps())
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"a plan cannot be made: {_said(error)}") from error
    return _outcome(made)


def _as_live(before: Bundle, operator: str) -> tuple[Live, Surroundings]:
    """An environment in which a bundle is released on every host, and all that it brings was done."""
    release_id = before.release.release_id
    migrations = before.migrations
    live = Live(
        deployed={process.process_id: (process.content_sha256,) for process in before.processes},
        migrations=None
        if migrations is None
        else {each.name: Applied(each.content_sha256, release_id) for each in migrations},
    )
    units = dict.fromkeys(before.units, (release_id,))
    return live, Surroundings(installed=(before.release,), units=units, owner=operator)


def _outcome(made: Plan) -> Outcome:
    return Outcome(
        changes=[f"{change.kind} {change.name}: {change.text}" for change in made.changes],
        problems=[str(refusal) for refusal in made.refusals],
        data=_data(made),
        report=text(made),
        exit_code=EXIT_FAILED if made.refusals else EXIT_DRIFT if made.changes else 0,
    )


def _data(made: Plan) -> Mapping[str, Any]:
    document = asdict(made)
    document["verdict"]["way"] = made.verdict.way
    return document


def _said(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) and error.args else str(error)
