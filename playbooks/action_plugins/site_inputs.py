"""One digest of all that the roles of a site are given: what they are, what the inventory says, its secrets, and the command line's variables."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.release import __version__
from ansible.utils.vars import load_extra_vars

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils.inventory_digest import digest

DOCUMENTATION = r"""
name: site_inputs
short_description: Return one digest of all that roles are given
description: >-
  Reads files of the control machine only. A digest tells nothing of the secrets in it. C(site_anew) on the command line is a wish, and no input.
options:
  folders: {description: Folders that are read whole, beside those of the inventories., type: list, elements: path, required: true}
  files: {description: Further files; one that is not there is part of the digest too., type: list, elements: path, default: []}
"""

RETURN = r"""
digest: {description: SHA-256 in hexadecimal digits., returned: always, type: str}
"""

# With it the roles look at everything; what they leave is the same.
WISH = "site_anew"


def summarize(folders: Iterable[Path], files: Iterable[Path], options: Mapping[str, Any]) -> str:
    """Return one SHA-256 of the folders, the files and the options, and of the Ansible that reads them."""
    parts: dict[str, Any] = {str(folder): digest(folder) for folder in folders}
    parts |= {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None for path in files}
    said = json.dumps([__version__, parts, dict(options)], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()


class ActionModule(ActionBase):
    """Reads the control machine's files in its own process."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"folders", "files"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the digest."""
        super().run(tmp, task_vars)
        sources = [Path(source) for source in (task_vars or {})["ansible_inventory_sources"]]
        inventories = [source if source.is_dir() else source.parent for source in sources]
        folders, files = ([Path(path) for path in self._task.args.get(name, [])] for name in ("folders", "files"))
        folders = [*folders, *inventories]
        options = {name: value for name, value in load_extra_vars(self._loader).items() if name != WISH}
        return {"changed": False, "digest": summarize(folders, files, options)}
