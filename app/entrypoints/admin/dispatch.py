"""Finds a command by its words: the folder tree below `commands` is the command tree, and a word is a file's name.

Only the module that the words name is imported, so that a command starts as fast as what it needs.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from app.application.operations import OperationError
from app.contracts.loader import ContractError
from app.entrypoints.admin.outcome import Outcome, failed
from app.entrypoints.admin.wiring import Session
from app.settings.reader import EXIT_CONFIG, SettingsError

_PACKAGE = "app.entrypoints.admin.commands"
_FOLDER = Path(__file__).parent / "commands"

_GROUPS = {
    ("audit-export",): "The files of the audit export.",
    ("bpmn",): "Processes and the workers that serve them.",
    ("approval-policy",): "Who must approve what; published, versioned.",
    ("catalog",): "Catalog versions: drafts, publication, and the demo catalog.",
    ("config",): "Settings of running units.",
    ("consumers",): "Where consumer groups go on, and which partitions wait for a person.",
    ("contracts",): "Interfaces of one release against another's.",
    ("db",): "The database beside its schema.",
    ("db", "grants"): "Who may do what, against the contract.",
    ("epoch",): "Which colour of a role works.",
    ("external",): "External systems: breakers, endpoints, and what they did against what was recorded.",
    ("fallout",): "Steps that wait for a person, and what was decided.",
    ("flags",): "Feature flags, for the environment and for tenants.",
    ("load",): "Generated history, where capacity is measured.",
    ("outbox",): "Events that were published.",
    ("processes",): "Versions of business processes: routed, draining, retired.",
    ("processes", "route"): "Which cases get which version.",
    ("dead-letters",): "Events that a consumer group gave up on.",
    ("migrate",): "Migrations by their phases: expand, backfill, contract.",
    ("projections",): "Read models against what they are made of.",
    ("reconcile",): "What disagrees between orders, processes, events, read models and external systems.",
    ("redis",): "The cache, which may be lost at any moment.",
    ("release",): "The steps of release.yml: checks and journal.",
    ("release", "canary"): "A release that some tenants, product lines or processes have first.",
    ("repair",): "Corrections; each needs a reason.",
    ("repair", "outbox"): "Events.",
    ("repair", "reaction"): "What events asked to be done outside.",
    ("repair", "workflow"): "Process starts.",
    ("scaling",): "Hosts that are added to a tier.",
    ("smoke",): "The synthetic order.",
    ("topics",): "Kafka topics and access to them.",
}


def run(arguments: Sequence[str], session: Session) -> Outcome:
    """Run one command and answer what came of it, whatever that is.

    Wrong usage prints its message and exits with 2 (SystemExit), as --help does with 0.
    """
    kept: list[Outcome] = []
    try:
        _application(arguments, kept.append)(list(arguments), obj=session, prog_name="cpq-oms-admin")
    except (OperationError, ContractError) as error:
        return failed(error.problems)
    except SettingsError as error:
        return Outcome(problems=error.problems, exit_code=EXIT_CONFIG)
    except SystemExit:
        if not kept:
            raise
    return kept[0]


def command_words() -> list[tuple[str, ...]]:
    """Every command there is, as the words people type."""
    files = (path.relative_to(_FOLDER) for path in _FOLDER.rglob("*.py") if path.name != "__init__.py")
    return sorted(tuple(part.replace("_", "-") for part in file.with_suffix("").parts) for file in files)


def _application(arguments: Sequence[str], keep: Callable[[Outcome], None]) -> typer.Typer:
    words = tuple(argument for argument in arguments if not argument.startswith("-"))
    commands = command_words()
    named = [command for command in commands if words[: len(command)] == command]
    root = typer.Typer(name="cpq-oms-admin", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    root.callback()(_root_help)
    groups: dict[tuple[str, ...], typer.Typer] = {(): root}
    for command in named or commands:
        for depth in range(1, len(command)):
            if command[:depth] not in groups:
                group = typer.Typer(no_args_is_help=True)
                words_so_far = command[:depth]
                groups[words_so_far[:-1]].add_typer(group, name=words_so_far[-1], help=_GROUPS[words_so_far])
                group.callback()(_no_options)
                groups[command[:depth]] = group
        groups[command[:-1]].command(command[-1])(_keeping(_module(command).command, keep))
    return root


def _module(command: tuple[str, ...]) -> Any:
    module: ModuleType = importlib.import_module(".".join([_PACKAGE, *(word.replace("-", "_") for word in command)]))
    return module


def _keeping(command: Callable[..., Outcome], keep: Callable[[Outcome], None]) -> Callable[..., None]:
    @functools.wraps(command)
    def kept(*arguments: Any, **options: Any) -> None:
        keep(command(*arguments, **options))

    return kept


def _root_help() -> None:
    """Operate, diagnose and repair the platform; every changing run is audited.

    --json (one JSON document on standard output) and --operator NAME may stand anywhere.
    """


def _no_options() -> None:
    pass
