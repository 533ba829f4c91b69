"""Which come first when there is no time for all: what the newest commit touches, then the others in an order of its own."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Newest(NamedTuple):
    """The newest commit: its hash, and the paths it touches from the repository's root."""

    commit: str
    touched: tuple[str, ...]


def newest() -> Newest:
    """Read the newest commit of this checkout."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--name-only", "--format=%H"]
    commit, *touched = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return Newest(commit, tuple(touched))


def in_turn(candidates: Iterable[tuple[str, str]], newest: Newest) -> list[tuple[str, str]]:
    """Order candidates, each a path and a name: those with something touched in their path, then the others.

    The same commit always gives the same order, and over many commits every candidate comes early equally often.
    """
    order = sorted(candidates)
    random.Random(newest.commit).shuffle(order)
    return sorted(order, key=lambda one: not any(_is_in(path, one[0]) for path in newest.touched))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
