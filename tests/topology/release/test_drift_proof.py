"""Single alterations of the released host are each found by the comparison, with nothing beside them; `make drift-proof` tries all."""

from __future__ import annotations

import subprocess

from tests.drift_proof.proof import ROOT, choose, compare, false_alarms, prepare, problems
from tests.topology.release.conftest import Environment

COUNT = 6


def test_alterations_are_found_each_and_nothing_else_is(environment: Environment) -> None:
    """Other ones for each commit; the last comparison shows that what was taken back is gone."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said: dict[str, list[str]] = {}
    for mutation in choose(COUNT, commit):
        prepare(environment.host)
        mutation.plant(environment.host)
        try:
            said[mutation.name] = problems(mutation, environment.host, compare(environment.bundle))
        finally:
            mutation.undo(environment.host)

    assert {name: lines for name, lines in said.items() if lines} == {}
    assert len(said) == COUNT
    assert false_alarms(compare(environment.bundle)) == []
