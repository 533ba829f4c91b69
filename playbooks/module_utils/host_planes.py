"""What a host says of its packages, kernel settings and packet filter, as texts by item, for modules that hold it to something."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROCESSES = Path("/proc/sys")
# Whole packages; the other words of dpkg are for those that are not, and for those that somebody wants otherwise.
WHOLE = ("installed", "install")
GONE = ("not-installed", "config-files")

Items = dict[str, str]


class UnseenError(Exception):
    """A plane could not be read."""


def run(*command: str) -> str:
    """Return what a command printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise UnseenError(f"{command[0]} exited {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


def sysctl(names: list[str], files: list[str]) -> Items:
    """Return the kernel's settings, and the files that set them at the host's start."""
    found = {}
    for name in names:
        path = PROCESSES / name.replace(".", "/")
        found[name] = " ".join(path.read_text(encoding="ascii").split()) if path.exists() else "unknown to the kernel"
    return found | {path: Path(path).read_text(encoding="utf-8") for path in files if Path(path).exists()}


def packages() -> Items:
    """Return the version of every package, with its state where it is not whole."""
    found = {}
    listed = run("dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status} ${db:Status-Want}\n")
    for line in listed.splitlines():
        name, version, status, want = line.split(" ")
        if status not in GONE:
            found[name] = version if (status, want) == WHOLE else f"{version} {status}, wanted: {want}"
    return found


def nftables() -> Items:
    """Return every table of the packet filter, as nft writes it."""
    found = {}
    for line in run("nft", "list", "tables").splitlines():
        _, family, name = line.split()
        found[f"table {family} {name}"] = " ".join(run("nft", "--stateless", "list", "table", family, name).split())
    return found
