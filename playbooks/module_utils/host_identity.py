"""Which host this is: what it says of itself, held against what an inventory takes it for.

Two inventories differ in a word on a command line. What a host was made for is written on it once, and its certificates say it
too; a playbook that takes it for another is aimed at the wrong environment, or the address leads to the wrong machine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path("/etc/cpq-oms")
IDENTITY = "identity.json"


def read(folder: Path = FOLDER) -> dict[str, Any] | None:
    """Return what the host says of itself, or None on a host that nobody has provisioned yet."""
    try:
        found = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ValueError("it holds no object")  # noqa: TRY004 - what is wrong is the file's content
    return found


def problem(expected: Mapping[str, Any], folder: Path = FOLDER) -> str:
    """Say in one line why this is not the expected host; nothing when it is, or when it says nothing yet."""
    path = folder / IDENTITY
    try:
        found = read(folder)
    except (OSError, ValueError) as error:
        return f"{expected['host']}: {path} cannot be read ({error}); restore it, or remove it and provision the host (playbooks/site.yml)"
    if found is not None and _key(found) != _key(expected):
        return _line(expected, str(path), _words(found))
    for settings in sorted(folder.glob("*.env")):
        # A unit that says another environment writes that one's keys into Redis.
        said = re.search(
            '^APP_ENV="?([^"\n]*)"?$', settings.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if said and said[1] != expected["environment"]:
            return (
                f"{expected['host']}: redis-namespace: expected APP_ENV={expected['environment']}, found {said[1]} in {settings}; "
                "find out who wrote it, then remove the file: a release writes it anew"
            )
    for certificate, subject in _subjects(folder):
        host, environment, tier = subject.get("CN", "").partition("@")[2], subject.get("O", ""), subject.get("OU", "")
        if (host, environment) != (expected["host"], expected["environment"]) or tier not in expected["tiers"]:
            return _line(expected, str(certificate), f"{host} of {environment} ({tier})")
    return ""


def _line(expected: Mapping[str, Any], where: str, found: str) -> str:
    return (
        f"{expected['host']}: expected {_words(expected)}, found {found} in {where}; give the inventory of that environment (-i), "
        f"correct the host's address, or, where the host is to become another, make it anew"
    )


def _key(identity: Mapping[str, Any]) -> tuple[Any, ...]:
    return identity.get("environment"), identity.get("host"), sorted(identity.get("tiers", ()))


def _words(identity: Mapping[str, Any]) -> str:
    tiers = ", ".join(sorted(identity.get("tiers", ())))
    return f"{identity.get('host')} of {identity.get('environment')} ({tiers})"


def _subjects(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    openssl = shutil.which("openssl")
    for certificate in sorted(folder.glob("tls/*/cert.pem")) if openssl else ():
        command = [
            str(openssl),
            "x509",
            "-noout",
            "-subject",
            "-nameopt",
            "multiline,utf8,-space_eq,-lname,sname",
            "-in",
            str(certificate),
        ]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        yield (
            certificate,
            {
                name.strip(): value.strip()
                for name, _, value in (line.partition("=") for line in shown.splitlines()[1:])
            },
        )
