"""The command line of a unit: `--check-config`, or the unit itself with its settings read and its log configured."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from app.runtime.logging import configure
from app.runtime.notify import Notifier
from app.runtime.release import installed_release
from app.settings import reader
from app.settings.shared import ProcessSettings

SettingsT = TypeVar("SettingsT", bound=ProcessSettings)


def run(
    unit: str,
    model: type[SettingsT],
    serve: Callable[[SettingsT, str, Notifier], Coroutine[Any, Any, int]],
    argv: Sequence[str] | None,
    *,
    description: str | None,
    problems: Callable[[SettingsT], Sequence[str]] | None = None,
) -> int:
    """Run a unit and return its exit status; 78 for settings that are wrong, with a line for each on stderr.

    Args:
        unit: the deployable, such as `relay`.
        model: its settings.
        serve: the unit's life, given the settings, the installed release and the service manager.
        argv: the arguments, those of the process when None.
        description: what the unit is for, as `--help` says it.
        problems: what is wrong with settings that are well-formed each by itself, one line each.
    """
    parser = argparse.ArgumentParser(prog=f"cpq-oms-{unit}", description=description)
    parser.add_argument("--check-config", action="store_true", help="validate the settings and exit 0 or 78")
    arguments = parser.parse_args(argv)
    environ = reader.take_environment()
    try:
        settings = reader.read(model, environ, reader.credentials_directory(environ))
        found = problems(settings) if problems else ()
    except reader.SettingsError as error:
        found = error.problems
    if found:
        sys.stderr.writelines(f"{problem}\n" for problem in found)
        return reader.EXIT_CONFIG
    if arguments.check_config:
        return 0
    release_id = installed_release().release_id
    configure(settings.log_level, unit, release_id, settings.app_instance_id)
    return asyncio.run(serve(settings, release_id, Notifier.from_environ(environ)))
