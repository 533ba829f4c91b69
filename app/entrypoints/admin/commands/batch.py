"""Several commands in one process: what a playbook needs between two host changes, in one connection."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from app.entrypoints.admin import dispatch
from app.entrypoints.admin.outcome import EXIT_FAILED, Outcome
from app.entrypoints.admin.wiring import InputError, Session


class _Item(BaseModel):
    """One command: its arguments, and what it reads from standard input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arguments: list[str]
    input: Any = None


def command(
    context: typer.Context,
    keep_going: Annotated[bool, typer.Option(help="Run what follows a command that failed, too.")] = False,
) -> Outcome:
    """Run the commands of a JSON list on standard input, [{"arguments": [...], "input": ...}], and stop at a failure.

    A plan that finds a difference is no failure. Every command keeps its own audit row.
    """
    session: Session = context.obj
    try:
        items = TypeAdapter(list[_Item]).validate_python(session.input())
    except ValidationError as error:
        raise InputError(f"standard input is no list of commands: {error.errors()[0]['msg']}") from error
    results: list[dict[str, Any]] = []
    changes: list[str] = []
    problems: list[str] = []
    changed, exit_code = False, 0
    for item in items:
        outcome = dispatch.run(item.arguments, session.with_input(item.input))
        results.append({"arguments": item.arguments, **outcome.document()})
        changes += outcome.changes
        problems += outcome.problems
        changed = changed or outcome.changed
        exit_code = max(exit_code, outcome.exit_code)
        if outcome.problems and not keep_going:
            break
    return Outcome(
        changes=changes,
        changed=changed,
        problems=problems,
        data={"release_id": session.release.release_id, "results": results},
        exit_code=EXIT_FAILED if problems else exit_code,
    )
