#!/usr/bin/python
"""Ansible module: whether a host is still as the roles left it, so that they need not look at everything again.

A role's task asks for one thing of one host and costs a process there. A receipt holds what all of them left, as a digest of
each item; one look at the host tells whether any of it differs since. It speaks for the host alone: what a service keeps itself,
such as its users, is not in it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_identity import problem
from ansible.module_utils.host_planes import Items, UnseenError, nftables, packages, run, sysctl

DOCUMENTATION = r"""
module: host_receipt
short_description: Keep what the roles left on a host, and tell whether it is still so
description:
  - >-
    Files below C(/etc), C(/opt) and C(/usr/local) with their mode, owner and content, mode and owner of the folders in C(/var/lib), links, accounts, packages, the kernel's settings of O(sysctl_files), the
    packet filter and the state of every unit that starts with the host.
  - A host that is not the one of O(identity) is looked at no further; that is a failure.
  - With O(state=compared) it reads only. A receipt that is missing, of other inputs, or a day old is none: some of what roles do depends on the date.
options:
  state: {description: What to do., type: str, choices: [compared, kept], required: true}
  identity: {description: The host's environment, name and tiers (C(environment), C(host), C(tiers))., type: dict, required: true}
  inputs: {description: Digest of all that the roles were given; empty where they are to look at everything., type: str, required: true}
  sysctl_files: {description: Files whose settings are compared with the kernel's., type: list, elements: path, default: []}
  leaves:
    description: >-
      Patterns (as of a shell) of items that belong to others: a path, C(account FILE NAME), C(unit NAME).
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: See whether the host is as it was left
  host_receipt:
    state: compared
    identity: {environment: staging, host: api-1, tiers: [api]}
    inputs: "{{ digest }}"
    leaves: ["/etc/cpq-oms/*.env"]
  register: receipt
"""

RETURN = r"""
settled: {description: Whether nothing differs., returned: always, type: bool}
why: {description: What differs, or why there is no receipt; empty where nothing does., returned: always, type: str}
"""

RECEIPT = Path("/etc/cpq-oms/receipt.json")
# One line each for an account; a release makes accounts of its own.
ACCOUNTS = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
ETC = Path("/etc")
# Looked at whole, and for the mode and owner of the folders in it.
ROOTS = (ETC, Path("/opt"), Path("/usr/local"))
FOLDERS = (Path("/var/lib"),)
UNIT_FILES = Path("/etc/systemd/system")
# Written by the host itself while it runs, and by nobody who configures it.
OF_THE_HOST = ("/etc/.pwd.lock", "/etc/*-", "/etc/mtab", "/etc/ld.so.cache", "/etc/adjtime", "/etc/resolv.conf")
LAPSES_AFTER_SECONDS = 86_400
NAMED = 6
BLOCK = 1 << 20


def described(path: Path, *, with_content: bool) -> str:
    """Return mode, owner, and digest or target of one path."""
    seen = path.lstat()
    words = f"{seen.st_mode:o} {seen.st_uid}:{seen.st_gid}"
    if stat.S_ISLNK(seen.st_mode):
        return f"{words} -> {path.readlink()}"
    if with_content and stat.S_ISREG(seen.st_mode):
        summary = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                summary.update(block)
        words += f" {summary.hexdigest()}"
    return words


def files(is_left: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield everything below the roots, and the direct entries of the folders without what they hold."""
    for root in ROOTS:
        for at, below, names in os.walk(root):
            below[:] = [name for name in below if not is_left(f"{at}/{name}")]
            for name in (*below, *names):
                path = Path(at, name)
                if not is_left(str(path)):
                    yield str(path), described(path, with_content=True)
    for folder in FOLDERS:
        for path in folder.iterdir():
            if path.is_dir() and not is_left(str(path)):
                yield str(path), described(path, with_content=False)


def accounts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every account, and of secret ones a digest."""
    for name in ACCOUNTS:
        path = folder / name
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            yield f"account {name} {line.partition(':')[0]}", hashlib.sha256(line.encode()).hexdigest()


def units(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what starts with the host, whether it runs, and whether it is what its file says."""
    # Its links say what starts; systemctl list-unit-files reads every unit of the system, for a second.
    names = {
        path.name for kind in ("wants", "requires") for path in folder.glob(f"*.{kind}/*") if "@." not in path.name
    }
    shown = run("systemctl", "show", *sorted(names), "--property=Id,ActiveState,NeedDaemonReload") if names else ""
    for block in filter(None, shown.split("\n\n")):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        yield f"unit {unit['Id']}", f"{unit['ActiveState']}, outdated: {unit['NeedDaemonReload']}"


def kernel(paths: Sequence[str]) -> Items:
    """Return the kernel's own values of what the files set."""
    names = [
        line.partition("=")[0].strip()
        for path in paths
        if Path(path).exists()
        for line in Path(path).read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith(("#", ";"))
    ]
    return {f"sysctl {name}": value for name, value in sysctl(names, []).items()}


def look(params: Mapping[str, Any]) -> Items:
    """Return everything that the receipt is about, by item.

    Raises:
        UnseenError: a part could not be read.
    """
    # Accounts are looked at one by one.
    patterns = [*params["leaves"], *OF_THE_HOST, str(RECEIPT), *(str(ETC / name) for name in ACCOUNTS)]

    def is_left(item: str) -> bool:
        return any(fnmatch.fnmatchcase(item, pattern) for pattern in patterns)

    found = {
        **dict(files(is_left)),
        **dict(accounts(ETC)),
        **dict(units(UNIT_FILES)),
        **kernel(params["sysctl_files"]),
        **{f"package {name}": version for name, version in packages().items()},
        **{f"packet filter {name}": hashlib.sha256(words.encode()).hexdigest() for name, words in nftables().items()},
        "processors": str(os.cpu_count()),
        "memory": str(os.sysconf("SC_PHYS_PAGES")),
    }
    return {item: words for item, words in found.items() if not is_left(item)}


def lapsed(kept: Mapping[str, Any], inputs: str, now: float) -> str:
    """Say in one line why the receipt is none, whatever the host is like."""
    if not inputs:
        return "a complete run was asked for"
    if not kept:
        return "no complete run has left a receipt"
    if kept["inputs"] != inputs:
        return "roles, inventory, secrets or options are others than those it was left with"
    if not 0 <= now - kept["at"] < LAPSES_AFTER_SECONDS:
        return f"it was last looked at whole {LAPSES_AFTER_SECONDS} s ago, or longer"
    return ""


def difference(was: Items, live: Items) -> str:
    """Say in one line what the host is that it was not; nothing where it is as it was."""
    differ = sorted(item for item in {*was, *live} if was.get(item) != live.get(item))
    return f"{len(differ)} differ: {', '.join(differ[:NAMED])}{', ...' if differ[NAMED:] else ''}" if differ else ""


def read() -> dict[str, Any]:
    """Return the receipt, or nothing where there is none that can be read."""
    try:
        found = json.loads(RECEIPT.read_text(encoding="utf-8"))
        return {"inputs": str(found["inputs"]), "at": float(found["at"]), "items": dict(found["items"])}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def keep(inputs: str, live: Items, now: float) -> None:
    """Write the receipt whole or not at all."""
    staged = RECEIPT.with_suffix(".new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"inputs": inputs, "at": now, "items": live}, file)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(RECEIPT)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["compared", "kept"], "required": True},
            "identity": {"type": "dict", "required": True},
            "inputs": {"type": "str", "required": True},
            "sysctl_files": {"type": "list", "elements": "path", "default": []},
            "leaves": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params, now = module.params, time.time()
    if why := problem(params["identity"]):
        module.fail_json(msg=why)
    kept = read()
    if params["state"] == "compared" and (why := lapsed(kept, params["inputs"], now)):
        module.exit_json(changed=False, settled=False, why=why)
    try:
        live = look(params)
    except (UnseenError, OSError, ValueError) as error:
        # What cannot be seen is looked at by the roles, which say what is wrong in their own words.
        module.exit_json(changed=False, settled=False, why=f"it cannot be looked at whole: {error}")
    if params["state"] == "kept" and not module.check_mode:
        keep(params["inputs"], live, now)
    why = difference(kept["items"], live) if params["state"] == "compared" else ""
    module.exit_json(changed=False, settled=not why, why=why)


if __name__ == "__main__":
    main()
