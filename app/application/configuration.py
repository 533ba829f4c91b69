"""Changes of settings while units run: of the declared kinds only, valid for every unit they are for, with a reason."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.application.operations import OperationError
from app.application.repair import RepairReason
from app.settings.declaration import WHY_NOT, Change, setting_of
from app.settings.reader import SettingsError, parse
from app.settings.units import RUNNING, UNITS

ALL_UNITS = "*"

_ELSEWHERE: Mapping[str, str] = {
    "APPROVAL_POLICY": "a business reference: publish the next version with `approval-policy publish`",
    "CATALOG_VERSION": "catalog data: publish the version with `catalog publish`",
    "FEATURE_FLAG": "a flag: change it with `flags set`",
    "SCHEMA_COMPATIBILITY": "a promise to consumers: it is declared with each topic and changes with a release",
}
"""What people may take for settings; each has a way of its own."""


class SettingRefusedError(OperationError):
    """The setting may not change at run time, or not to this value; nothing was changed."""


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One change: `unit` is a deployable or ALL_UNITS, `value` None goes back to what units were started with."""

    unit: str
    name: str
    value: str | None
    reason: RepairReason

    @property
    def sentence(self) -> str:
        """The change in words."""
        whose = "every unit that has it" if self.unit == ALL_UNITS else self.unit
        return f"{self.name}: {'as started' if self.value is None else self.value} for {whose}"


class ConfigurationStore(Protocol):
    """Where runtime settings are kept: one transaction, opened by the caller."""

    async def make(self, change: SettingChange) -> bool:
        """Store a change with its history and wake every unit on commit; False when it is so already."""
        ...


def changeable() -> dict[str, list[str]]:
    """Every setting that may change at run time, with the units that have it."""
    found: dict[str, list[str]] = {}
    for unit, model in RUNNING.items():
        for name, field in model.model_fields.items():
            if setting_of(field).change is Change.RUNTIME:
                found.setdefault(name.upper(), []).append(unit)
    return found


async def change_setting(
    store: ConfigurationStore, name: str, value: str | None, unit: str | None, reason: RepairReason
) -> SettingChange:
    """Set a setting for a unit, or with no unit for all that have it; with no value take the operator's value away.

    Raises:
        SettingRefusedError: the setting is of a kind that does not change at run time, the message says why and how it does;
            or a unit does not have it, the value is none of its values, or it is so already.
    """
    variable = name.upper().replace("-", "_")
    units = _units_with(variable)
    if unit is not None and unit not in units:
        raise SettingRefusedError(f"{variable} is no setting of {unit}; it is one of {', '.join(units)}")
    if value is not None:
        for each in [unit] if unit else units:
            try:
                parse(RUNNING[each], variable, value)
            except SettingsError as error:
                raise SettingRefusedError(*error.problems) from None
    change = SettingChange(unit or ALL_UNITS, variable, value, reason)
    if not await store.make(change):
        raise SettingRefusedError(f"{change.sentence}: it is so already")
    return change


def _units_with(variable: str) -> Sequence[str]:
    units = changeable().get(variable)
    if units:
        return units
    if variable in _ELSEWHERE:
        raise SettingRefusedError(f"{variable} is {_ELSEWHERE[variable]}")
    declared = {name.upper(): field for model in UNITS.values() for name, field in model.model_fields.items()}
    if variable in declared:
        category = setting_of(declared[variable]).category
        raise SettingRefusedError(f"{variable} does not change at run time ({category}): {WHY_NOT[category]}")
    close = difflib.get_close_matches(variable, [*declared, *_ELSEWHERE], n=1)
    raise SettingRefusedError(f"{variable} is no setting{f'; did you mean {close[0]}?' if close else ''}")
