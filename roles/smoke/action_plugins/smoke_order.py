"""Prints what the smoke test saw as a table, passed or not; the module does the rest."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    """Runs the module and shows its steps."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module of the same name."""
        super().run(tmp, task_vars)
        if self._task.check_mode:
            Display().display("    would take an order through the stack, or read the newest one")
            return {"changed": False, "steps": []}
        result: dict[str, Any] = self._execute_module(module_args=self._task.args, task_vars=task_vars)
        steps = result.get("steps", [])
        width = max((len(step["step"]) for step in steps), default=0)
        for step in steps:
            verdict = "ok" if step["passed"] else "FAILED"
            Display().display(
                f"    {step['step']:<{width}}  {verdict:<6}  {step['seconds']:6.2f} s  {step['evidence']}"
            )
        return result
