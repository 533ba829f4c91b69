"""Every misdeployment that docs/misdeployments.md lists is shown by a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/misdeployments.md"
GATES = {
    "lint", "judging", "first look", "plan", "pre-checks", "expand migration", "first host", "waves", "routing", "window",
    "any step", "each unit before its first call", "for a bundle that is not installed yet, the first host",
}  # fmt: skip
_SHOWN = re.compile(r"`(?P<path>tests/[^`:]+)(?:::(?P<test>\w+))?`(?: \((?P<case>[^)]+)\))?")
ROWS = {
    cells[0]: cells
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and len(cells := [cell.strip() for cell in line.strip("|").split(" | ")]) == 4
    if cells[0] != "mistake"
}


def missing(shown: str) -> list[str]:
    """Name what a cell refers to and nobody finds."""
    references = list(_SHOWN.finditer(shown))
    lacking = [] if references else ["no test is named"]
    for reference in references:
        path = ROOT / reference["path"]
        if not path.exists():
            lacking.append(f"{reference['path']} is not there")
        elif reference["test"] and reference["test"] not in functions_of(path):
            lacking.append(f"{reference['path']} has no {reference['test']}")
        elif reference["case"] and f'"{reference["case"]}"' not in path.read_text():
            lacking.append(f"{reference['path']} has no case {reference['case']}")
    return lacking


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("mistake", ROWS)
def test_a_row_names_its_gate_and_a_test_that_is_there(mistake: str) -> None:
    _, gates, called, shown = ROWS[mistake]

    assert [gate for gate in gates.split("; ") if gate not in GATES] == []
    assert called
    assert missing(shown) == []


def test_the_page_has_every_row() -> None:
    assert len(ROWS) >= 32


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("nothing", "no test is named"),
        ("`tests/unit/nowhere.py`", "tests/unit/nowhere.py is not there"),
        ("`tests/architecture/test_misdeployments.py::test_nothing`", "has no test_nothing"),
        ("`tests/topology/release/test_integration_catches.py` (wrong moon)", "has no case wrong moon"),
    ],
)
def test_a_row_that_nothing_shows_is_seen(shown: str, said: str) -> None:
    (lacking,) = missing(shown)

    assert said in lacking
