"""Says that a release began, where its report goes, and what is known of it before it did anything.

The callback plugin of the same name listens for it.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.action_plugins.cpq_admin import operator
from playbooks.module_utils.release_account import run_name

DOCUMENTATION = r"""
name: release_report
short_description: Begin the report of a release
options:
  folder: {description: Each run gets a folder in it., required: true}
  kind: {description: V(release) or V(rollback)., required: true}
  environment: {description: Its name., required: true}
  hosts: {description: Hosts whose journals people will look into., required: true}
"""

CONSOLE_PAGES = ("", "dashboards/api", "processes", "alerts")


class ActionModule(ActionBase):
    """Works on the control machine only, and changes nothing."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"folder", "kind", "environment", "hosts"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what is told to the report."""
        super().run(tmp, task_vars)
        return {"changed": False, "told": told(self._task.args, self._console(task_vars or {}), time.time())}

    def _console(self, variables: Mapping[str, Any]) -> str:
        """Return the console's address; none where the inventory does not tell it, which others judge."""
        try:
            return str(self._templar.template(variables["release_console"]))
        except (AnsibleError, KeyError):
            return ""


def told(options: Mapping[str, Any], console: str, now: float) -> dict[str, Any]:
    """Return what a report begins with.

    Args:
        options: of the task.
        console: the console's address; empty where there is none.
        now: seconds since the epoch.
    """
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    journal = f"journalctl --no-pager --unit='cpq-oms-*' --since='{since}'"
    return {
        "run": run_name(now),
        "began": now,
        "folder": str(options["folder"]),
        "kind": str(options["kind"]),
        "environment": str(options["environment"]),
        "operator": operator(),
        "control_machine": socket.gethostname(),
        "logs": [{"host": host, "command": f"ssh {host} {journal!r}"} for host in options["hosts"]],
        "console": [{"name": f"{console}/{path}", "url": f"{console}/{path}"} for path in CONSOLE_PAGES]
        if console
        else [],
    }
