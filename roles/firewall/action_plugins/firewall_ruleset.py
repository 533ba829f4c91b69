"""Puts a host's packet filter in force and proves by a new connection that the host is still reached."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Lets the module load the rules on probation, connects anew, and lets the module keep them."""

    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset({"content", "patience"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once and, when it changed the rules, once more over a new connection."""
        super().run(tmp, task_vars)
        options = self._task.args
        loaded: dict[str, Any] = self._execute_module("firewall_ruleset", options, task_vars=task_vars)
        if loaded.get("failed") or not loaded.get("on_probation") or self._task.check_mode:
            return loaded
        try:
            # What is connected already passes as established, whatever the rules say.
            self._connection.reset()
            kept: dict[str, Any] = self._execute_module(
                "firewall_ruleset", {**options, "keep": True}, task_vars=task_vars
            )
        except AnsibleConnectionFailure as error:
            kept = {"failed": True, "msg": str(error)}
        if kept.get("failed") or kept.get("unreachable"):
            reason = str(kept.get("msg", "no answer")).strip().splitlines()[-1]
            host = (task_vars or {}).get("inventory_hostname", "")
            return {
                "failed": True,
                "changed": False,
                "msg": f"{host}: no new connection got through the new rules; the old ones are back {options['patience']} s after "
                f"they were replaced. Look for this machine's address in cpq_operations_networks. ({reason})",
            }
        return {**loaded, "kept": True}
