"""Begins, continues and ends rotations of the environment's certificates and of its root, on the control machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
name: certificate_authority
short_description: One step of a rotation
description: Each step may be repeated. A rotation that was interrupted goes on where it was.
options:
  authority: {description: Folder of the certificate authority on the control machine., required: true}
  environment: {description: Name of the environment., required: true}
  root_days: {description: Days that a new root is valid., required: true}
  step:
    description: >-
      V(begin) and V(end) of a rotation of all certificates; of the root V(adding) it to the trusted ones, V(reissuing) all
      certificates by it, V(dropping) the former one, and V(done).
    choices: [begin, end, adding, reissuing, dropping, done]
    required: true
"""


class ActionModule(ActionBase):
    """Works on the control machine only."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"authority", "environment", "root_days", "step"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the step."""
        super().run(tmp, task_vars)
        options = self._task.args
        path = Path(__file__).with_name("tls_identity.py")
        specification = importlib.util.spec_from_file_location("cpq_tls_identity_action", path)
        if specification is None or specification.loader is None:
            raise AnsibleActionFail(f"{path} is missing")
        plugin = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(plugin)
        library = plugin.certificate_authority()
        if self._task.check_mode:
            return {"changed": False, "skipped": True}
        authority = library.Authority(Path(options["authority"]), options["environment"], int(options["root_days"]))
        step = options["step"]
        try:
            if step in {"begin", "end"}:
                return {"changed": authority.rotate(begin=step == "begin")}
            return {"changed": authority.advance("" if step == "done" else step)}
        except library.AuthorityError as error:
            raise AnsibleActionFail(str(error)) from error
