"""Shows who opened or changed secrets on this control machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils import secret_access_log

DOCUMENTATION = r"""
name: secret_access
short_description: Show who opened or changed secrets on this control machine, and fail where that was altered
options:
  environment: {description: Changes of other environments are left out; openings are not., required: true}
  password_file: {description: The password of all vaults of this machine; the record lies beside it., required: true}
"""


class ActionModule(ActionBase):
    """Reads the log on the control machine."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"environment", "password_file"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return one line for each record."""
        super().run(tmp, task_vars)
        log = secret_access_log.beside(Path(self._task.args["password_file"]))
        entries, broken = secret_access_log.read(log)
        if broken is not None:
            raise AnsibleActionFail(f"{log}: line {broken} is not what was written there, or one before it is missing")
        wanted = ("", self._task.args["environment"])
        lines = [
            f"{one['at']} {one['user']} {one['did']} {one['secret']} {one['command']}".strip()
            for one in entries
            if one["environment"] in wanted
        ]
        return {"changed": False, "msg": lines}
