"""Reads a unit's settings from its environment and its credentials, and reports every problem at once.

This package is the only one that touches the process environment: entry points call `take_environment` once and pass
on what they got. A named but unreadable credential stops the process; no setting has a value hidden in code; a variable
with one of our names that is no setting of the unit is refused.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from app.runtime.runtime_settings import RuntimeSettings
from app.settings.declaration import Change, given_class, is_secret, setting_of, value_class

EXIT_CONFIG = 78
"""EX_CONFIG of sysexits(3): the unit files list it in RestartPreventExitStatus."""

OUR_PREFIXES = (
    "API_", "APP_", "AUTH_", "BILLING_", "CALLBACK_", "CAMUNDA_", "CONSOLE_", "CONSUMER_", "CRM_", "DB_", "DOCUMENT_GENERATION_",
    "EXTERNAL_", "FEATURE_", "HTTP_", "INVENTORY_", "ISSUER_", "KAFKA_", "LOG_", "METRICS_", "NOTIFICATION_", "OTLP_", "PARTNER_",
    "PAYMENT_", "PROVISIONING_", "REDIS_", "RELAY_", "SIMULATOR_", "SMOKE_", "TENANT_", "TLS_", "WORKER_",
)  # fmt: skip
"""How the names of our variables begin, whichever unit they are for."""

_SERVICE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")
# Has a beginning of ours and is the machine's.
_NOT_OURS = frozenset({"HTTP_PROXY"})

ModelT = TypeVar("ModelT", bound=BaseModel)


class Credential(SecretStr):
    """A secret from the credentials directory; `repr` hides it, `get_secret_value()` gives it.

    While it is being rotated its file has two lines: what counts now, and what counted before or will count next.
    """

    def get_secret_value(self) -> str:
        return self.accepted[0]

    @property
    def accepted(self) -> tuple[str, ...]:
        """The secret and, while it is being rotated, the other one."""
        return tuple(self._secret_value.splitlines())

    @property
    def other(self) -> str | None:
        """The other one, while it is being rotated."""
        return self.accepted[1] if len(self.accepted) > 1 else None


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
        SettingsError: with all problems; each names the variable, what its values are, and the rule that is broken. Values
            are never part of a message.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in model.model_fields.items():
        variable = name.upper()
        if is_secret(field):
            secret = _read_credential(name.replace("_", "-"), credentials, problems, required=field.is_required())
            if secret is not None:
                values[name] = secret
        elif variable in environ:
            values[name] = environ[variable]
        elif field.is_required():
            problems.append(f"{variable}: missing; expected {value_class(field)}")
    problems += _foreign(model, environ)
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        problems += [_described(detail, model, environ) for detail in error.errors() if detail["type"] != "missing"]
    else:
        if not problems:
            return settings
    raise SettingsError(problems)


def check(
    model: type[ModelT],
    environ: Mapping[str, str],
    output: TextIO | None = None,
    problems: Callable[[ModelT], Sequence[str]] | None = None,
) -> int:
    """Implement `--check-config`: print each problem on a line of its own, on stderr, and return the exit status, 0 or 78.

    `problems` says what is wrong with settings that are well-formed each by itself.
    """
    try:
        settings = read(model, environ, credentials_directory(environ))
        found = problems(settings) if problems else ()
    except SettingsError as error:
        found = error.problems
    (output or sys.stderr).writelines(problem + "\n" for problem in found)
    return EXIT_CONFIG if found else 0


def parse(model: type[BaseModel], variable: str, text: str) -> Any:
    """Read the value of one setting as `read` would.

    Raises:
        SettingsError: it is not a value of this setting, or the model has no such setting.
    """
    field = model.model_fields.get(variable.lower())
    if field is None:
        raise SettingsError([f"{variable}: unknown{_hint(variable, _variables(model))}"])
    shape: Any = Annotated[field.annotation, *field.metadata]
    adapter: TypeAdapter[Any] = TypeAdapter(shape)
    try:
        return adapter.validate_python(text)
    except ValidationError as error:
        raise SettingsError([f"{variable}: {_rule(detail, field, text)}" for detail in error.errors()]) from None


def runtime_settings(settings: BaseModel) -> RuntimeSettings:
    """Return those of a unit's settings that may change while it runs, with the values it was started with."""
    model = type(settings)
    changeable = {
        name.upper(): getattr(settings, name)
        for name, field in model.model_fields.items()
        if setting_of(field).change is Change.RUNTIME
    }
    return RuntimeSettings(changeable, lambda variable, text: parse(model, variable, text))


def _read_credential(name: str, credentials: Path | None, problems: list[str], *, required: bool) -> str | None:
    """Read a credential; one that may be missing is None where there is no file or an empty one."""
    if not required and (credentials is None or not (credentials / name).exists()):
        return None
    if credentials is None:
        problems.append(f"credential {name}: missing, CREDENTIALS_DIRECTORY is not set")
        return None
    try:
        secret = (credentials / name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"credential {name}: unreadable ({type(error).__name__})")
        return None
    if not secret:
        if required:
            problems.append(f"credential {name}: empty")
        return None
    return secret


def _foreign(model: type[BaseModel], environ: Mapping[str, str]) -> list[str]:
    """Name the variables that are ours by their beginning, or nearly by their whole name, and no settings of this unit."""
    known = _variables(model)
    secrets = {name.upper(): name.replace("_", "-") for name, field in model.model_fields.items() if is_secret(field)}
    problems = []
    for name in sorted(set(environ) - known - _NOT_OURS):
        if name in secrets:
            problems.append(f"{name}: a secret is a credential file ({secrets[name]}), never a variable")
        elif name.startswith(OUR_PREFIXES) or _hint(name, known):
            problems.append(f"{name}: unknown, no setting of this unit{_hint(name, known)}")
    return problems


def _variables(model: type[BaseModel]) -> set[str]:
    return {name.upper() for name, field in model.model_fields.items() if not is_secret(field)}


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _described(detail: Any, model: type[BaseModel], environ: Mapping[str, str]) -> str:
    location = detail["loc"]
    if not location:
        return f"settings: {detail['msg'].removeprefix('Value error, ')}"
    variable = str(location[0]).upper()
    return f"{variable}: {_rule(detail, model.model_fields[str(location[0])], environ.get(variable, ''))}"


def _rule(detail: Any, field: FieldInfo, text: str) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    return f"{value_class(field)}: {message}; given: {given_class(text)}"
