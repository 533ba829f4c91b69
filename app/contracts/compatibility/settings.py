"""Whether an inventory that suited one release suits another, as settings.json of both say.

A setting that is gone is refused where it is still given, and one that is new is asked for: either is well where the
inventory of the release says so already. A setting keeps its name only as long as it takes what it took.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from app.contracts.compatibility.finding import Finding, Level

Settings = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By unit and name."""
Given = Mapping[str, Collection[str]]
"""The names that an inventory gives to each unit."""

_AT_RUN_TIME = "at run time"


def compare(older: Settings, newer: Settings, given: Given | None) -> Iterator[Finding]:
    """Say every difference. Without `given` nothing is known of inventories, and each of them has to follow."""
    for unit in sorted({*older, *newer}):
        if unit not in older or unit not in newer:
            yield _finding(unit, Level.COMPATIBLE, "the unit is new" if unit in newer else "the unit is gone")
            continue
        if given is not None and unit not in given:
            continue  # the inventory has no such unit
        names = None if given is None else given[unit]
        for name in sorted({*older[unit], *newer[unit]}):
            at, was, now = f"{unit}/{name}", older[unit].get(name), newer[unit].get(name)
            if was is None and now is not None:
                yield _new(at, name, now, names)
            elif now is None:
                yield _gone(at, name, names)
            elif was is not None:
                yield from _changed(at, was, now)


def _new(at: str, name: str, now: Mapping[str, Any], names: Collection[str] | None) -> Finding:
    if not now["required"]:
        return _finding(at, Level.COMPATIBLE, "is new and has a default")
    if names is not None and name in names:
        return _finding(at, Level.COMPATIBLE, "is new, and the inventory gives it")
    return _finding(at, Level.BREAKING, "is new and has no default; an inventory must give it")


def _gone(at: str, name: str, names: Collection[str] | None) -> Finding:
    if names is not None and name not in names:
        return _finding(at, Level.COMPATIBLE, "is gone, and the inventory does not give it")
    return _finding(at, Level.BREAKING, "is gone or has another name; a unit refuses it where an inventory gives it")


def _changed(at: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    if now["required"] and not was["required"]:
        yield _finding(at, Level.BREAKING, "has no default any more")
    if was["category"] != now["category"]:
        yield _finding(at, Level.BREAKING, f"category: was {was['category']}, is {now['category']}")
    if was["changes"] != now["changes"]:
        level = Level.BREAKING if was["changes"] == _AT_RUN_TIME else Level.COMPATIBLE
        yield _finding(at, level, f"changes: was {was['changes']}, is {now['changes']}")
    if was["kind"] != now["kind"]:
        yield _finding(at, Level.BREAKING, f"value: was {was['kind']}, is {now['kind']}")
        return
    gone = [value for value in was.get("choices", ()) if value not in now.get("choices", ())]
    new = [value for value in now.get("choices", ()) if value not in was.get("choices", ())]
    if gone:
        yield _finding(at, Level.BREAKING, f"choices: no longer {', '.join(gone)}")
    if new:
        yield _finding(at, Level.COMPATIBLE, f"choices: also {', '.join(new)}")
    for bound, is_lower in (("minimum", True), ("maximum", False)):
        before, after = was.get(bound), now.get(bound)
        if before == after:
            continue
        tighter = before is None or (after is not None and (after > before) is is_lower)
        yield _finding(at, Level.BREAKING if tighter else Level.COMPATIBLE, f"{bound}: was {before}, is {after}")


def _finding(at: str, level: Level, text: str) -> Finding:
    return Finding("settings", at, level, text)
