"""How commands are told of the record of releases, and tell of it: what a machine's copy ends with, entries, hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from app.application.release_record import NOTHING, Entry, Head, Place
from app.entrypoints.admin.wiring import InputError

_HEAD = re.compile(r"([1-9][0-9]*):([0-9a-f]{64})")
_PLACE = re.compile(r"([^\s-]\S*) (\S+) (\S+)")
_NO_RELEASE = "-"


def head_of(text: str) -> Head:
    """Read where a copy ends, `SEQUENCE:HASH`; empty for no copy.

    Raises:
        InputError: it is neither.
    """
    if not text:
        return NOTHING
    match = _HEAD.fullmatch(text)
    if match is None:
        raise InputError(f"--known: expected SEQUENCE:HASH with 64 hexadecimal digits, found {text[:80]!r}")
    return Head(int(match[1]), match[2])


def places(texts: Sequence[str]) -> list[Place]:
    """Read hosts with their release before and after.

    Raises:
        InputError: one has not these three words.
    """
    found = []
    for text in texts:
        match = _PLACE.fullmatch(text)
        if match is None:
            raise InputError(f"--on: expected 'HOST BEFORE AFTER' with - for no release, found {text[:80]!r}")
        host, *releases = match.groups()
        found.append(Place(host, *("" if release == _NO_RELEASE else release for release in releases)))
    return found


def told(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return entries as the machine that releases keeps them."""
    return [{"sequence": entry.sequence, "body": entry.body, "hash": entry.hash} for entry in entries]
