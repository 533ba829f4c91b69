"""Reads a unit's settings from its environment and its credentials, and reports every problem at once.

This package is the only one that touches the process environment: entry points call `take_environment` once and pass
on what they got. A named but unreadable credential stops the process; no setting has a value hidden in code.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

EXIT_CONFIG = 78
"""EX_CONFIG of sysexits(3): the unit files list it in RestartPreventExitStatus."""

_SERVICE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

ModelT = TypeVar("ModelT", bound=BaseModel)


class Credential(SecretStr):
    """A secret from the credentials directory; `repr` hides it, `get_secret_value()` gives it."""


class SettingsError(Exception):
    """The environment does not make a valid configuration.

    Attributes:
        problems: one line each, beginning with the name of the variable or credential.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def take_environment() -> dict[str, str]:
    """Copy the environment and take the service manager's own variables out of the process.

    No child process can then report READY or feed the watchdog in this one's place.
    """
    environ = dict(os.environ)
    for name in _SERVICE_MANAGER:
        os.environ.pop(name, None)
    return environ


def share_metrics_directory(directory: Path) -> None:
    """Tell the metrics library where the processes of a unit add up their counters.

    It reads this variable when it is imported, so call this first.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)


def credentials_directory(environ: Mapping[str, str]) -> Path | None:
    """The directory of LoadCredential= files, or None outside a unit that has any."""
    path = environ.get("CREDENTIALS_DIRECTORY")
    return Path(path) if path else None


def read(model: type[ModelT], environ: Mapping[str, str], credentials: Path | None) -> ModelT:
    """Build `model` from the environment.

    A field is read from the variable of the same name in upper case; a field of type `Credential` from the file of
    the same name with dashes.

    Raises:
        SettingsError: with all problems; values are never part of a message.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    known = {name.upper() for name in model.model_fields}
    for name, field in model.model_fields.items():
        if field.annotation is Credential:
            secret = _read_credential(name.replace("_", "-"), credentials, problems)
            if secret is not None:
                values[name] = secret
        elif name.upper() in environ:
            values[name] = environ[name.upper()]
        elif field.is_required():
            problems.append(f"{name.upper()}: missing{_near_miss(name.upper(), environ, known)}")
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        problems.extend(
            f"{_variable(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors()
            if detail["type"] != "missing"
        )
    else:
        if not problems:
            return settings
    raise SettingsError(problems)


def check(model: type[BaseModel], environ: Mapping[str, str], output: TextIO | None = None) -> int:
    """Implement `--check-config`: print each problem on a line of its own, on stderr, and return the exit status, 0 or 78."""
    try:
        read(model, environ, credentials_directory(environ))
    except SettingsError as error:
        (output or sys.stderr).writelines(problem + "\n" for problem in error.problems)
        return EXIT_CONFIG
    return 0


def _read_credential(name: str, credentials: Path | None, problems: list[str]) -> str | None:
    if credentials is None:
        problems.append(f"credential {name}: missing, CREDENTIALS_DIRECTORY is not set")
        return None
    try:
        secret = (credentials / name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"credential {name}: unreadable ({type(error).__name__})")
        return None
    if not secret:
        problems.append(f"credential {name}: empty")
        return None
    return secret


def _near_miss(name: str, environ: Mapping[str, str], known: set[str]) -> str:
    """Name a set variable that looks like a misspelling of the missing one."""
    close = difflib.get_close_matches(name, [other for other in environ if other not in known], n=1, cutoff=0.8)
    return f"; {close[0]} is set and looks like a misspelling" if close else ""


def _variable(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"
