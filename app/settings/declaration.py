"""What a setting is and how it may change, declared beside it: `db_url: Annotated[DatabaseUrl, INFRASTRUCTURE]`.

A credential needs no declaration: its type says what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python


class Category(StrEnum):
    """What a setting is about."""

    INFRASTRUCTURE = "runtime infrastructure"
    SECURITY = "security"
    FEATURE_FLAG = "feature flag"
    POLICY = "policy"
    SECRET = "secret"  # noqa: S105 (a category's name)


class Change(StrEnum):
    """How a setting gets another value."""

    RELEASE = "release"
    """The inventory says it, and a release restarts the unit with it."""

    RUNTIME = "at run time"
    """By `cpq-oms-admin config set`, audited, in force within seconds; the inventory's value comes back with `config unset`."""

    ROTATION = "rotation"
    """A new credential file, with which the unit is restarted."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting."""

    category: Category
    change: Change


INFRASTRUCTURE = Setting(Category.INFRASTRUCTURE, Change.RELEASE)
SECURITY = Setting(Category.SECURITY, Change.RELEASE)
FLAG_DEFAULTS = Setting(Category.FEATURE_FLAG, Change.RELEASE)
POLICY = Setting(Category.POLICY, Change.RELEASE)
CHANGEABLE = Setting(Category.POLICY, Change.RUNTIME)
_SECRET = Setting(Category.SECRET, Change.ROTATION)

WHY_NOT: dict[Category, str] = {
    Category.INFRASTRUCTURE: "a process keeps the connections it opened at its start; change the inventory and release",
    Category.SECURITY: "it decides whose tokens, data and systems are trusted; change the inventory and release",
    Category.FEATURE_FLAG: "flags are changed by `flags set`, their defaults in the inventory and by a release",
    Category.POLICY: "the unit was sized and checked with it at its start; change the inventory and release",
    Category.SECRET: "secrets are credential files; playbooks/rotate_secret.yml changes them",
}
"""Why a setting of a category that does not change at run time does not."""


@dataclass(frozen=True, slots=True)
class ValueClass:
    """What the values of a type are, for people: part of the type's Annotated."""

    text: str


def setting_of(field: FieldInfo) -> Setting:
    """Return a field's declaration.

    Raises:
        LookupError: it has none.
    """
    if is_secret(field):
        return _SECRET
    return next(iter(_only(Setting, field.metadata)), None) or _raise_undeclared(field)


def is_secret(field: FieldInfo) -> bool:
    """Tell whether the field is a credential."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, SecretStr)


def value_class(field: FieldInfo) -> str:
    """What values the field takes, in words, such as `whole number from 1 to 64`."""
    if is_secret(field):
        return "credential file"
    told: list[ValueClass] = _only(ValueClass, field.metadata)
    highest = next(iter(_only(Le, field.metadata)), None)
    if told:
        return told[0].text + (f", at most {to_jsonable_python(highest.le)}" if highest else "")
    if get_origin(field.annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(field.annotation)))}"
    if field.annotation is int:
        lowest = next(iter(_only(Ge, field.metadata)), None)
        bounds = f" from {lowest.ge} to {highest.le}" if lowest and highest else ""
        return f"whole number{bounds}"
    patterns = [pattern for entry in field.metadata if (pattern := getattr(entry, "pattern", None))]
    if patterns:
        return f"text of the form {patterns[0]}"
    return "text that is not empty" if any(_only(MinLen, field.metadata)) else "text"


def described(field: FieldInfo) -> dict[str, Any]:
    """What a field takes, as JSON values that two releases can be compared by; bounds of a duration are seconds."""
    declared = setting_of(field)
    found: dict[str, Any] = {
        "kind": "one of several" if get_origin(field.annotation) is Literal else _unbounded(field),
        "category": declared.category.value,
        "changes": declared.change.value,
        "required": field.is_required(),
    }
    if get_origin(field.annotation) is Literal:
        found["choices"] = sorted(map(str, get_args(field.annotation)))
    limits = {"minimum": _bound(field, Ge, "ge"), "maximum": _bound(field, Le, "le")}
    return found | {name: limit for name, limit in limits.items() if limit is not None}


def _unbounded(field: FieldInfo) -> str:
    told: list[ValueClass] = _only(ValueClass, field.metadata)
    if told:
        return told[0].text
    return "whole number" if field.annotation is int else value_class(field)


def _bound(field: FieldInfo, kind: type[Any], attribute: str) -> float | int | None:
    limit = next((getattr(entry, attribute) for entry in _only(kind, field.metadata)), None)
    return int(limit.total_seconds()) if isinstance(limit, timedelta) else limit


def given_class(value: str) -> str:
    """What was given, without saying it: it may be a secret in the wrong place."""
    if not value:
        return "nothing"
    return "a number" if value.lstrip("+-").isdecimal() else f"text of {len(value)} characters"


def _only(kind: type[Any], metadata: Iterable[Any]) -> list[Any]:
    return [entry for entry in metadata if isinstance(entry, kind)]


def _raise_undeclared(field: FieldInfo) -> Setting:
    raise LookupError(f"a setting of type {field.annotation} declares no category and change rule")
