"""Who opened or changed the secrets of an environment on the control machine: one line for each, chained by hashes.

A line that was altered or taken out breaks the chain. What was cut off at the end does not: send the file on, line by line, to where its writers
cannot reach it. It lies beside the vaults' password, since whoever may open them must be able to say so.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGINNING = "0" * 64


def beside(password: Path) -> Path:
    """Return the record of a machine by the file of its vaults' password."""
    return password.with_name("secret-access.jsonl")


def record(log: Path, did: str, *, secret: str = "", environment: str = "", command: str = "") -> None:
    """Append a line, on the disk before this returns.

    Args:
        log: the file.
        did: what was done, in the past tense.
        secret: the secret's name; empty for all of a vault.
        environment: of the secret; empty where it is in the command.
        command: how it was done, without values.

    Raises:
        OSError: it cannot be written; then the secret must not be given out or changed.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        entry = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "user": os.environ.get("SUDO_USER") or getpass.getuser(),
            "did": did,
            "secret": secret,
            "environment": environment,
            "command": command,
            "previous": _last_hash(stream.read()),
        }
        entry["hash"] = _hash(entry)
        stream.write(json.dumps(entry).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(log: Path) -> tuple[list[dict[str, Any]], int | None]:
    """Return all lines, and the number of the first that is not what was written there, or None."""
    entries: list[dict[str, Any]] = []
    previous = BEGINNING
    for number, line in enumerate(log.read_bytes().splitlines() if log.exists() else (), start=1):
        try:
            entry = json.loads(line)
            sound = entry["previous"] == previous and entry["hash"] == _hash(entry)
        except (ValueError, TypeError, KeyError):
            return entries, number
        if not sound:
            return entries, number
        entries.append(entry)
        previous = entry["hash"]
    return entries, None


def without_values(arguments: Sequence[str]) -> str:
    """Return a command line in which variables have names and no values."""
    shown: list[str] = []
    is_variable = False
    for argument in arguments:
        attached = argument[2:] if argument.startswith("-e") and len(argument) > len("-e") else ""
        if argument.startswith("--extra-vars="):
            attached = argument.partition("=")[2]
        if is_variable or attached:
            text = attached or argument
            name, sign, _ = text.partition("=")
            shown.append(("-e " if attached else "") + (f"{name}=…" if sign and name.isidentifier() else "…"))
            is_variable = False
            continue
        shown.append(argument)
        is_variable = argument in {"-e", "--extra-vars"}
    return " ".join(shown)


def _hash(entry: dict[str, Any]) -> str:
    content = {name: value for name, value in entry.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _last_hash(content: bytes) -> str:
    lines = content.splitlines()
    try:
        return str(json.loads(lines[-1])["hash"]) if lines else BEGINNING
    except (ValueError, TypeError, KeyError):
        # A torn line stays what it is: the chain shows where it broke.
        return hashlib.sha256(lines[-1]).hexdigest()
