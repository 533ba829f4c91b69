"""Puts what hosts gave, and what the control machine knows of a run, into one archive without secrets.

A secret that cannot be read here could not be masked either: then nothing is written.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils.release_account import run_name
from playbooks.module_utils.support_archive import ArchiveRefusedError, archive, kept

DOCUMENTATION = r"""
name: support_bundle
short_description: Write the support bundle of a run
options:
  folder: {description: Where each run has its folder., required: true}
  run: {description: The run whose report it goes beside; empty for a new name., default: ""}
  hosts: {description: Every host that was to be asked., required: true}
  collected: {description: Name of the variable in which each host left what it gave., required: true}
  password_file: {description: The password of this machine's vaults; never in the archive., required: true}
  record: {description: This machine's copy of the record of releases., required: true}
"""

CHECKOUT = Path(__file__).resolve().parents[2]
SECRETS = CHECKOUT / "app/contracts/secrets.yml"
SEALED = "$ANSIBLE_VAULT"
# Of the copy of the record so much is of interest to whoever looks for a fault.
RECORD_LINES = 200


class ActionModule(ActionBase):
    """Works on the control machine only."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"folder", "run", "hosts", "collected", "password_file", "record"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write it; in check mode only say so."""
        super().run(tmp, task_vars)
        variables, options = task_vars or {}, self._task.args
        folder, run = Path(options["folder"]), str(options.get("run") or run_name(time.time()))
        secrets = self._secrets(variables) | vault_password(Path(options["password_file"]))
        files = of_hosts(options["hosts"], variables["hostvars"], options["collected"])
        files |= of_inventories(variables.get("ansible_inventory_sources") or ())
        files |= of_run(folder / run, Path(options["record"]))
        files |= {"README.txt": about(run, files, options["hosts"])}
        if self._task.check_mode:
            return {"changed": True, "msg": f"would write support-{run}.tar.gz with {len(files)} files"}
        try:
            path = kept(folder, run, archive(f"support-{run}", files, secrets))
        except (ArchiveRefusedError, OSError) as error:
            raise AnsibleActionFail(f"support bundle of {run}: {error}") from None
        return {"changed": True, "path": str(path), "files": len(files)}

    def _secrets(self, variables: Mapping[str, Any]) -> dict[str, str]:
        """Return the values of every declared secret.

        Raises:
            AnsibleActionFail: one cannot be read; the message names it.
        """
        names = yaml.safe_load(SECRETS.read_text(encoding="utf-8"))["secrets"]
        found: dict[str, str] = {}
        for name in names:
            try:
                found[name] = str(self._templar.template(variables[f"secret_{name}"]))
            except (AnsibleError, KeyError) as error:
                reason = "is not in the inventory" if isinstance(error, KeyError) else "cannot be read here"
                raise AnsibleActionFail(
                    f"secret_{name} {reason}, so nobody could mask it: nothing is written"
                ) from None
        return found


def vault_password(path: Path) -> dict[str, str]:
    """Return the password of the vaults, where this machine has one."""
    try:
        return {"vault password": path.read_text(encoding="utf-8")}
    except FileNotFoundError:
        return {}


def of_hosts(hosts: Iterable[str], hostvars: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return what each host gave, or why it gave nothing."""
    found: dict[str, str] = {}
    for host in hosts:
        given = hostvars[host].get(name) or {}
        if "files" not in given:
            found[f"hosts/{host}/not-collected.txt"] = f"{given.get('msg') or 'it did not answer'}\n"
        for path, text in (given.get("files") or {}).items():
            found[f"hosts/{host}/{path}"] = str(text)
    return found


def of_inventories(sources: Iterable[str]) -> dict[str, str]:
    """Return the files of inventories as they are written; what a vault holds is left out."""
    found: dict[str, str] = {}
    for source in map(Path, sources):
        for path in _files(source):
            text = path.read_text(encoding="utf-8", errors="replace")
            name = (
                f"inventory/{source.name}/{path.relative_to(source)}" if source.is_dir() else f"inventory/{path.name}"
            )
            found[name] = "a vault: left out\n" if text.startswith(SEALED) else text
    return found


def _files(source: Path) -> list[Path]:
    """Return the files of an inventory, those that it leads to by links among them."""
    if source.is_file():
        return [source]
    found = (Path(place) / name for place, _, names in os.walk(source, followlinks=True) for name in names)
    return sorted(path for path in found if path.is_file())


def of_run(folder: Path, record: Path) -> dict[str, str]:
    """Return report and plan of a run, where it left them, and the end of the copy of the record."""
    found: dict[str, str] = {}
    report = folder / "report.json"
    if report.is_file():
        text = report.read_text(encoding="utf-8")
        found |= {"report.json": text, "plan.txt": json.loads(text)["plan"]["text"] or "no plan was made\n"}
    if record.is_file():
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        found["release-record.jsonl"] = "".join(lines[-RECORD_LINES:])
    return found


def about(run: str, files: Mapping[str, str], hosts: Iterable[str]) -> str:
    """Return what the archive says of itself."""
    silent = [host for host in hosts if f"hosts/{host}/not-collected.txt" in files]
    return (
        f"Support bundle of run {run}.\n"
        "Values of declared secrets are written as [masked: NAME]; what looks like another secret as [masked].\n"
        f"Hosts that gave nothing: {', '.join(silent) or 'none'}.\n"
    )
