"""Holds an inventory to the secrets that it takes from its vault, and makes a vault with those that are missing.

The names come from the inventory itself: each `secret_` variable that is written as `{{ vault_… }}` needs that name. Values
are made here, encrypted here and never part of a result.
"""

from __future__ import annotations

import os
import re
import secrets
import string
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils import secret_access_log

DOCUMENTATION = r"""
name: vault_secrets
short_description: Hold an inventory to the secrets of its vault, or make the missing ones
options:
  file: {description: The vault., required: true}
  state:
    description: V(complete) adds a generated value for each missing name; V(checked) fails with the missing names.
    choices: [checked, complete]
    required: true
  password_file: {description: The password of all vaults of this machine. Made, with V(complete), when neither it nor the vault exists., required: true}
"""

LENGTH = 40
ALPHABET = string.ascii_letters + string.digits
WANTED = re.compile(r"\{\{\s*(vault_\w+)")


class ActionModule(ActionBase):
    """Works on the control machine only."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"file", "state", "password_file"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare the names with the vault; add or report what is missing."""
        super().run(tmp, task_vars)
        # An inventory leads to it by a link, which must stay one.
        vault = Path(self._task.args["file"]).resolve()
        names = wanted(task_vars or {})
        if not names:
            return {"changed": False, "added": []}
        if self._task.args["state"] == "checked":
            if problem := missing(vault, names, task_vars or {}):
                raise AnsibleActionFail(problem)
            return {"changed": False, "added": []}
        password = Path(self._task.args["password_file"])
        known = self._read(vault, password)
        added = [name for name in names if not known.get(name)]
        if added and not self._task.check_mode:
            made = {name: "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for name in added}
            for name in added:
                self._record(name, task_vars or {})
            write(vault, known | made, password)
        return {"changed": bool(added), "added": added}

    def _record(self, name: str, variables: Mapping[str, Any]) -> None:
        environment = str(variables.get("cpq_env", ""))
        log = secret_access_log.beside(Path(self._task.args["password_file"]))
        try:
            secret_access_log.record(log, "made", secret=name.removeprefix("vault_"), environment=environment)
        except OSError as error:
            raise AnsibleActionFail(f"{log} cannot be written: {error.strerror}") from None

    def _read(self, vault: Path, password: Path) -> dict[str, Any]:
        if not vault.exists():
            if not password.exists() and not self._task.check_mode:
                replace(password, "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)).encode() + b"\n")
            return {}
        try:
            content = yaml.safe_load(opened(password).decrypt(vault.read_bytes()))
        except (OSError, AnsibleError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise AnsibleActionFail(f"{vault} cannot be read with the password in {password}: {reason}") from None
        return dict(content or {})


def wanted(variables: Mapping[str, Any]) -> list[str]:
    """Return the vault's names that the inventory's secrets are made of."""
    texts = (str(value) for name, value in variables.items() if name.startswith("secret_"))
    return sorted({name for text in texts for name in WANTED.findall(text)})


def missing(vault: Path, names: list[str], variables: Mapping[str, Any]) -> str:
    """Say what the vault lacks, or nothing."""
    remedy = f"ansible-playbook -i INVENTORY playbooks/secrets.yml -e secrets_file={vault} adds generated ones"
    if not vault.exists():
        return f"{vault} is missing; it defines {', '.join(names)}: put it there, or {remedy}"
    absent = [name for name in names if not variables.get(name)]
    return f"{vault} does not define {', '.join(absent)}: add what is missing, or {remedy}" if absent else ""


def opened(password: Path) -> VaultLib:
    """Return the library that reads and writes vaults with this machine's password."""
    return VaultLib([("default", VaultSecret(password.read_bytes().strip()))])


def write(vault: Path, content: Mapping[str, Any], password: Path) -> None:
    """Encrypt and replace the vault."""
    try:
        sealed = opened(password).encrypt(yaml.safe_dump(dict(sorted(content.items()))))
    except OSError as error:
        raise AnsibleActionFail(f"{password} cannot be read: {error.strerror}; it holds the vaults' password") from None
    replace(vault, sealed)


def replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
