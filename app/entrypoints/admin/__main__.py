"""cpq-oms-admin: operators' commands, each a process of its own with the credentials to do it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from logging import getLogger

from app.contracts.loader import environment_problems, load_feature_flags
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.outcome import show
from app.entrypoints.admin.wiring import Session
from app.runtime import logging
from app.runtime.release import installed_release
from app.settings.admin import AdminSettings
from app.settings.reader import check, take_environment

_EXIT_USAGE = 2
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def problems(settings: AdminSettings) -> list[str]:
    """Say what in the settings disagrees with the contracts, one line each."""
    declared = load_feature_flags()
    return environment_problems(settings.app_env, settings.external_environment) + [
        f"FEATURE_FLAG_DEFAULTS: entry {place}: expected one of {', '.join(sorted(declared))}"
        for place, flag in enumerate(settings.feature_flag_defaults, 1)
        if flag not in declared
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command the arguments name and return its exit status: 0, 1 failed, 2 usage, 3 difference, 4 inconclusive, 78 settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    environ = take_environment()
    if arguments == ["--check-config"]:
        return check(AdminSettings, environ, problems=problems)
    as_json = "--json" in arguments
    arguments = [argument for argument in arguments if argument != "--json"]
    operator = environ.get("ADMIN_OPERATOR") or environ.get("USER", "unknown")
    if "--operator" in arguments:
        place = arguments.index("--operator")
        if len(arguments) < place + 2:
            sys.stderr.write("--operator needs a name\n")
            return _EXIT_USAGE
        operator = arguments[place + 1]
        del arguments[place : place + 2]
    level = environ.get("LOG_LEVEL", "")
    # A wrong level is reported by the settings, with everything else that is wrong with them.
    logging.configure(level if level in _LEVELS else "INFO", "admin", installed_release().release_id)
    # yoyo narrates every statement; the command's own output says what was applied.
    getLogger("yoyo").setLevel("WARNING")
    outcome = dispatch.run(arguments, Session(environ, operator))
    show(outcome, as_json=as_json)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
