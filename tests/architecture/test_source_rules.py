"""Rules about the source that no linter states: who may read the environment, the clock, and the environment's name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"


def calls_and_attributes(tree: ast.AST) -> set[str]:
    """Return every dotted name used in the tree, such as `os.environ` or `datetime.now`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def offenders(source: str, forbidden: set[str]) -> set[str]:
    """Return the forbidden names that the source uses."""
    return {name for name in calls_and_attributes(ast.parse(source)) if name in forbidden}


def sources_outside(*packages: str) -> list[Path]:
    excluded = [APP / package for package in packages]
    return [path for path in sorted(APP.rglob("*.py")) if not any(path.is_relative_to(folder) for folder in excluded)]


ENVIRONMENT = {"os.environ", "os.getenv", "os.environb"}
CLOCK = {
    "datetime.now", "datetime.utcnow", "datetime.datetime.now", "date.today", "time.time", "time.monotonic",
    "uuid.uuid4", "uuid.uuid1", "uuid.uuid7",
}  # fmt: skip


@pytest.mark.parametrize(
    ("forbidden", "owner"), [(ENVIRONMENT, "settings"), (CLOCK, "runtime")], ids=["environment", "clock"]
)
def test_only_one_package_touches_it(forbidden: set[str], owner: str) -> None:
    found = {
        str(path.relative_to(ROOT)): sorted(names)
        for path in sources_outside(owner)
        if (names := offenders(path.read_text(), forbidden))
    }

    assert found == {}


@pytest.mark.parametrize(
    ("source", "forbidden"),
    [
        ("import os\nos.environ['X']", ENVIRONMENT),
        ("from os import environ", ENVIRONMENT),
        ("import time\ntime.time()", CLOCK),
    ],
)
def test_the_rule_sees_an_offender(source: str, forbidden: set[str]) -> None:
    assert offenders(source, forbidden)


def test_package_files_are_empty() -> None:
    found = [str(path.relative_to(ROOT)) for path in APP.rglob("__init__.py") if path.read_text().strip()]

    assert found == []


def foreign_blocks(path: Path) -> list[str]:
    """SQL files that a module reads and that do not travel with it: neither its own nor of a module that it imports."""
    source = path.read_text()
    read = set(re.findall(r'NamedBlocks\("(\w+)"\)', source))
    imported = set(re.findall(r"^from app\.adapters\.postgres\.(\w+) import", source, re.MULTILINE))
    return sorted(read - imported - {path.stem})


def test_a_modules_sql_travels_with_it() -> None:
    """An artifact takes a module's SQL along by the module's name: another's is missing where only this one is installed."""
    found = {path.name: blocks for path in (APP / "adapters/postgres").glob("*.py") if (blocks := foreign_blocks(path))}

    assert found == {}
