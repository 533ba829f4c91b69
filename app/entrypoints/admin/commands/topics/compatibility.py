"""Whether the events of this release suit those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from app.contracts import compatibility
from app.contracts.compatibility import Published
from app.contracts.loader import DIRECTORY
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import InputError, Session


def command(
    context: typer.Context,
    current: Annotated[
        Path, typer.Option(help="Contracts of the release: a folder with topics/ and events/.")
    ] = DIRECTORY,
    previous: Annotated[
        Path | None, typer.Option(help="Contracts of the release before it, instead of an input.")
    ] = None,
) -> Outcome:
    """Refuse topics and event schemas that readers or writers of another release could not live with.

    Without --previous, standard input says what is installed: {"release_id": this one's, "installed": {release id:
    {"topics": {file: text}, "events": {file: text}}}}. A release that goes back is judged by the one it leaves.
    """
    session: Session = context.obj
    try:
        mine = compatibility.read(current)
        if previous is not None:
            found = list(compatibility.problems(compatibility.read(previous), mine))
            return failed(found) if found else Outcome(data={"compared": [str(previous)]})
        document = session.input()
        release_id, installed = document["release_id"], _installed(document["installed"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"contracts cannot be read: {error}") from error
    found = []
    for other_id, theirs in sorted(installed.items()):
        older, newer = (mine, theirs) if compatibility.is_earlier(release_id, other_id) else (theirs, mine)
        found += [f"beside {other_id}: {problem}" for problem in compatibility.problems(older, newer)]
    return failed(found) if found else Outcome(data={"compared": sorted(installed)})


def _installed(document: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, Published]:
    return {name: compatibility.parse(files["topics"], files["events"]) for name, files in document.items()}
