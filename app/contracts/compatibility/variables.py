"""Whether instances of one release can go on under another: a version of process variables never changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.contracts.compatibility.finding import Finding, Level

_NAME = re.compile(r"^(?P<process>.+)\.v(?P<version>[0-9]+)\.schema\.json$")
_IN_WORDS = frozenset({"title", "description", "$comment", "examples"})

Schemas = Mapping[str, Mapping[str, Any]]
"""By file name."""


def compare(older: Schemas, newer: Schemas) -> Iterator[Finding]:
    """Say which versions are new, gone or changed."""
    for name in sorted({*older, *newer}):
        if name not in older:
            yield Finding("variables", name, Level.COMPATIBLE, "is new")
        elif name not in newer:
            later = [other for other in newer if _is_later(other, name)]
            level = Level.READERS if later else Level.BREAKING
            text = "a release refuses it while orders still reach it" if later else "no later version goes on"
            yield Finding("variables", name, level, f"is gone; {text}")
        elif (changed := _first_difference(older[name], newer[name], "")) is not None:
            text = "changed; a version stays as it is, and what differs is a version of its own"
            yield Finding("variables", f"{name}: {changed or '/'}", Level.BREAKING, text)


def _is_later(name: str, than: str) -> bool:
    mine, other = _NAME.match(name), _NAME.match(than)
    return bool(mine and other and mine["process"] == other["process"] and int(mine["version"]) > int(other["version"]))


def _first_difference(older: Any, newer: Any, at: str) -> str | None:
    if isinstance(older, dict) and isinstance(newer, dict):
        for key in sorted({*older, *newer} - _IN_WORDS):
            if (key in older) != (key in newer):
                return f"{at}/{key}"
            found = _first_difference(older[key], newer[key], f"{at}/{key}")
            if found is not None:
                return found
        return None
    if isinstance(older, list) and isinstance(newer, list):
        return None if sorted(map(json.dumps, older)) == sorted(map(json.dumps, newer)) else at
    return None if older == newer else at
