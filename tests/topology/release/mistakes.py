"""Mistakes planted on released hosts: each stops the release at a step that is known beforehand, and nothing is changed by then."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.bundles import seal
from tests.topology.release.conftest import INVENTORY, Environment, Run

Arguments = list[str]
Plant = Callable[[Environment, Path], AbstractContextManager[Arguments]]

# Plays and tasks of the runbook.
JUDGED = "Judge inventory, variables, bundle and processes before any host hears of the release"
SEEN = "See what is installed and running, and what the release would change"
INTERFACES = "Hold the interfaces of the release to what clients, readers, instances and the inventory know"
CHECKED = "Check the platform, open the journal, plan, and pause what could interfere"
VARIABLES = "Judge inventory, variables and bundle"
PROCESSES = (
    "Hold every job type and variable of the processes to a worker, and every worker to what can still be reached"
)
HOST = "Look at the host"
COMPARED = "Compare OpenAPI, topics, events, variables and settings with those installed"
PRE_CHECKS = "release_checks : Run | Judge the platform: before"


@dataclass(frozen=True)
class Mistake:
    """One way to make a mistake, and how a release must take it.

    Attributes:
        plant: makes it, gives what the release is told beside its usual arguments, and takes the mistake back.
        play, task: where the release must stop.
        says: what must be said of it: the thing, what was expected, and what was found.
    """

    plant: Plant
    play: str
    task: str
    says: tuple[str, ...]


def stops_and_changes_nothing(environment: Environment, folder: Path, mistake: Mistake) -> None:
    """Make the mistake and release; fail unless the release stops where and as it must, with everything as it was."""
    before = state(environment)
    with mistake.plant(environment, folder) as arguments:
        run = environment.release(*arguments)

    assert run.code != 0, run.output
    assert stopped_at(run) == (mistake.play, mistake.task), run.output
    assert [text for text in mistake.says if text not in said(run)] == [], run.output
    assert run.changed == 0, run.output
    assert state(environment) == before
    assert environment.timer_runs()


def altered_inventory(group: str, old: str, new: str, file: str = "app_service.yml") -> Plant:
    """The environment's own inventory, with one text of a group's variables altered."""

    @contextmanager
    def planted(_: Environment, folder: Path) -> Iterator[Arguments]:
        copy = shutil.copytree(INVENTORY, folder / "inventory")
        path = copy / "group_vars" / group / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        yield ["-i", str(copy)]

    return planted


def altered_bundle(*changes: tuple[str, Callable[[str], str]]) -> Plant:
    """The released bundle with other contracts or processes, signed: a release reads these without installing anything."""

    @contextmanager
    def planted(environment: Environment, folder: Path) -> Iterator[Arguments]:
        bundle = environment.copied_bundle(folder / "bundle")
        for name, change in changes:
            path = bundle / name
            text = path.read_text()
            path.write_text(change(text))
            assert path.read_text() != text, f"{name} was not altered"
        seal(bundle)
        yield ["-e", f"release_bundle={bundle}"]

    return planted


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def state(environment: Environment) -> tuple[object, ...]:
    """What a release changes: processes, what is current, the schema, and what the engine was given."""
    return (
        environment.main_pids(),
        environment.host.run("readlink /opt/cpq-oms/*/current").stdout,
        environment.sql("SELECT migration, applied_at FROM cpq.migration_ledger ORDER BY migration"),
        environment.sql("SELECT count(*), max(deployed_at) FROM cpq.process_deployment"),
    )


def stopped_at(run: Run) -> tuple[str, str]:
    """The play and the task that the first failure is of."""
    before, _, _ = run.output.partition("\n   failed ")
    play = before.rpartition("\n== ")[2].partition("\n")[0]
    failed = re.search(r"^   failed +[\d.]+ s  (.*?)(?:  \[.*\])?$", run.output, re.MULTILINE)
    assert failed, run.output
    return play, failed[1]


def said(run: Run) -> str:
    """What the release said, on one line: reasons are wrapped for people."""
    return " ".join(run.output.split())
