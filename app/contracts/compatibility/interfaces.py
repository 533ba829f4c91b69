"""All interfaces of a release as files, and the comparison of two releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.contracts.compatibility import events, openapi, settings, variables
from app.contracts.compatibility.finding import Finding, Level

PARTS: Mapping[str, str] = {
    "topics": "topics/*.yml",
    "events": "events/*.schema.json",
    "variables": "variables/*.schema.json",
    "openapi": "openapi.yml",
    "settings": "settings.json",
}
"""Which files below a contracts folder say what an interface is."""

DECLARATIONS: Mapping[str, str] = {
    "job_types": "job_types.yml",
    "processes": "processes.yml",
    "redis_keys": "redis_keys.yml",
    "flags": "feature_flags.yml",
    "path": "release_path.yml",
}
"""What else a release says of itself and a plan compares; nobody outside of the platform relies on it."""

_ALWAYS = ("topics", "events")
"""Every release there was carries these; the others came later, and a release without one is not held to it."""

Files = Mapping[str, Mapping[str, str]]
"""Texts by interface and file name."""


@dataclass(frozen=True)
class Interfaces:
    """What a release lays open, read: documents by interface and file name. Interfaces it has no file of are left out."""

    documents: Mapping[str, Mapping[str, Mapping[str, Any]]]


def parse(files: Files) -> Interfaces:
    """Read the files of any release.

    Raises:
        ValueError: topics or events are missing, or a file is malformed; the message names it.
    """
    for part in _ALWAYS:
        if not files.get(part):
            raise ValueError(f"there is no {PARTS[part]}")
    return Interfaces(
        {
            part: {name: events.mapping(name, text) for name, text in texts.items()}
            for part, texts in files.items()
            if part in PARTS and texts
        }
    )


def read(directory: Path) -> Interfaces:
    """Read a contracts folder, of a checkout or a bundle.

    Raises:
        ValueError: it holds no topics or no events, or a file is malformed.
    """
    files = {part: {path.name: path.read_text() for path in directory.glob(glob)} for part, glob in PARTS.items()}
    try:
        return parse(files)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error


def compared(one: Interfaces, other: Interfaces) -> list[str]:
    """The interfaces that both have, in the order of PARTS."""
    return [part for part in PARTS if part in one.documents and part in other.documents]


def compare(
    theirs: Interfaces, mine: Interfaces, *, is_backward: bool = False, given: settings.Given | None = None
) -> list[Finding]:
    """Say every difference between the release that is there and the one that is to be.

    Args:
        theirs: the release that is there.
        mine: the release that is to be.
        is_backward: the release that is to be was made before the other; events, API and variables are judged in the
            order in which they were made, for what was added may be taken away again.
        given: the settings that the inventory gives to each unit, where there is one.
    """
    older, newer = (mine, theirs) if is_backward else (theirs, mine)
    return list(_differences(older, newer)) + list(_settings(theirs, mine, given))


def _differences(older: Interfaces, newer: Interfaces) -> Iterator[Finding]:
    was, now = (events.Published(each.documents["topics"], each.documents["events"]) for each in (older, newer))
    for level, lines in ((Level.BREAKING, events.problems(was, now)), (Level.READERS, events.additions(was, now))):
        for line in lines:
            place, _, text = line.partition(": ")
            interface, _, file = place.partition("/")
            yield Finding(interface, file, level, text)
    for part in compared(older, newer):
        had, has = older.documents[part], newer.documents[part]
        if part == "openapi":
            yield from openapi.compare(had["openapi.yml"], has["openapi.yml"])
        elif part == "variables":
            yield from variables.compare(had, has)


def _settings(theirs: Interfaces, mine: Interfaces, given: settings.Given | None) -> Iterator[Finding]:
    if "settings" in compared(theirs, mine):
        had, has = (each.documents["settings"]["settings.json"] for each in (theirs, mine))
        yield from settings.compare(had, has, given)
