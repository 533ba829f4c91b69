"""Looks for secrets on a host where none may be: journal, processes, unit files, logs, releases, what Ansible leaves behind.

Secrets of environments that tests use are random and forty characters long: wherever one is found, it leaked.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Run = Callable[[str, str], str]
"""Runs a shell command as root on a host, with a standard input, and returns what it printed."""

# Each reads the secrets from standard input and tells by number which it found where; it is written so that it stands within single quotes.
_COMMON = r"""
import glob, json, os, subprocess, sys, time
wanted = [one.encode() for one in json.load(sys.stdin)]
found = set()
def look(place, content):
    found.update((number, place) for number, one in enumerate(wanted) if one in content)
def processes():
    seen = 0
    for what in ("environ", "cmdline"):
        for path in glob.glob("/proc/[0-9]*/" + what):
            try:
                with open(path, "rb") as stream:
                    look(what, stream.read())
            except OSError:
                continue
            seen += 1
    return seen
"""
_SEARCH = (
    _COMMON
    + r"""
journal = subprocess.run(["journalctl", "--no-pager", "--output=export"], capture_output=True).stdout
look("journal", journal)
seen = processes()
folders = ["/etc/systemd", "/run/systemd/system", "/var/log", "/opt/cpq-oms", "/tmp", "/var/tmp", "/usr/share/doc/cpq-oms"]
folders += glob.glob("/root/.ansible*") + glob.glob("/home/*/.ansible*")
for folder in folders:
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if os.path.isfile(path) and os.path.getsize(path) < 1 << 24 and "/journal/" not in path:
                with open(path, "rb") as stream:
                    look(path, stream.read())
print(json.dumps({"found": sorted(found), "journal": len(journal), "processes": seen}))
"""
)
_WATCH = (
    _COMMON
    + r"""
mark, rounds, end = "/run/cpq-oms-secret-watch", 0, time.monotonic() + 300
open(mark, "w").close()
while os.path.exists(mark) and time.monotonic() < end:
    processes()
    rounds += 1
print(json.dumps({"found": sorted(found), "rounds": rounds}))
"""
)
STOP_WATCHING = "rm -f /run/cpq-oms-secret-watch"


def search(run: Run, wanted: Mapping[str, str]) -> list[str]:
    """Return which secrets a host shows, as `name in place`."""
    said = json.loads(run(f"python3 -I -c '{_SEARCH}'", json.dumps(list(wanted.values()))).splitlines()[-1])
    assert said["journal"] > 0, "the host has no journal"
    assert said["processes"] > 0, "the host has no processes"
    return _named(said["found"], wanted)


def watch(run: Run, wanted: Mapping[str, str]) -> list[str]:
    """Look into all processes of a host over and over until STOP_WATCHING is run there; return as `search` does."""
    said = json.loads(run(f"python3 -I -c '{_WATCH}'", json.dumps(list(wanted.values()))).splitlines()[-1])
    assert said["rounds"] > 1, "nothing was watched"
    return _named(said["found"], wanted)


def in_text(text: str, wanted: Mapping[str, str]) -> list[str]:
    """Return the names of secrets in a text."""
    return [name for name, value in wanted.items() if value in text]


def in_files(paths: Iterable[Path], wanted: Mapping[str, str]) -> list[str]:
    """Return which secrets files hold, as `name in path`."""
    content = {path: path.read_bytes() for path in paths if path.is_file()}
    return [
        f"{name} in {path}"
        for name, value in wanted.items()
        for path, bytes_ in content.items()
        if value.encode() in bytes_
    ]


def in_history(repository: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return the names of secrets that any commit of the repository ever had."""
    git = ["git", "-C", str(repository)]
    objects = subprocess.run(
        [*git, "cat-file", "--batch-all-objects", "--batch", "--buffer"], capture_output=True, check=True
    ).stdout
    assert objects, "the repository has no history"
    return [name for name, value in wanted.items() if value.encode() in objects]


def _named(found: Iterable[tuple[int, str]], wanted: Mapping[str, str]) -> list[str]:
    names = list(wanted)
    return [f"{names[number]} in {place}" for number, place in found]
