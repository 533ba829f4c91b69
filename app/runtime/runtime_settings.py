"""Settings of a running process that operators may change; everything else a process keeps as it was started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from app.runtime.logging import get_logger

_log = get_logger(__name__)


class RuntimeSettings:
    """The values in force now: an operator's where there is one, else the one the process was started with.

    Ask at each use: a value kept aside stays as it was.

    Args:
        started_with: each changeable setting by its variable's name, such as LOG_LEVEL.
        parse: turns (variable, text) into a value; raises for a text that is none.
    """

    def __init__(self, started_with: Mapping[str, Any], parse: Callable[[str, str], Any]) -> None:
        self._started_with = dict(started_with)
        self._parse = parse
        self._values = dict(started_with)
        self._texts: Mapping[str, str] = {}
        self._acts: dict[str, list[Callable[[Any], None]]] = {}

    def value(self, variable: str) -> Any:
        """The value in force."""
        return self._values[variable]

    def duration(self, variable: str) -> timedelta:
        """The value in force of a setting that is a duration."""
        value: timedelta = self._values[variable]
        return value

    def on_change(self, variable: str, act: Callable[[Any], None]) -> None:
        """Call `act` with each new value."""
        if variable not in self._started_with:
            raise LookupError(f"{variable} is not changeable at run time")
        self._acts.setdefault(variable, []).append(act)

    def override(self, texts: Mapping[str, str]) -> None:
        """Take over what operators have set, all of it: a setting that is not named goes back to its start value.

        Names this process does not have are not its business. A text that is no value of its setting changes nothing.
        """
        if texts == self._texts:
            return
        self._texts = dict(texts)
        for variable, start in self._started_with.items():
            if variable not in texts:
                self._set(variable, start)
                continue
            try:
                value = self._parse(variable, texts[variable])
            except Exception as error:  # noqa: BLE001 - whatever the text does, the process goes on with what it has
                _log.error("configuration refused", setting=variable, error=str(error))
                continue
            self._set(variable, value)

    def _set(self, variable: str, value: Any) -> None:
        before = self._values[variable]
        if value == before:
            return
        self._values[variable] = value
        _log.warning("configuration changed", setting=variable, before=str(before), after=str(value))
        for act in self._acts.get(variable, ()):
            act(value)
