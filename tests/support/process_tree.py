"""A process and all that it started, to be ended together."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path


def descendants(process: int) -> list[int]:
    """List a process and all that it started, except what it left to run on its own: hosts have no parent among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [process]
    for one in found:
        found.extend(children.get(one, []))
    return found


def end(processes: list[int], number: signal.Signals) -> None:
    """Send a signal to each that is still there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def end_with_parent() -> None:
    """Let the kernel send this process a SIGTERM when its parent ends, however that comes about."""
    parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(parent_death_signal, signal.SIGTERM)
