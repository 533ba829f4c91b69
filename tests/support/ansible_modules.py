"""Runs one of our Ansible modules in the test's own process, as the controller would call it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

LIBRARY = Path(__file__).parents[2] / "playbooks" / "library"


def load(name: str, library: Path = LIBRARY) -> ModuleType:
    """Import `<name>.py` of a library of modules, which is no package."""
    specification = importlib.util.spec_from_file_location(name, library / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


class ModuleRun:
    """Calls the module's `main` and keeps what it printed, so that tests can also look for what must not be there."""

    def __init__(self, module: ModuleType, capsys: pytest.CaptureFixture[str], remote_tmp: Path) -> None:
        self._module = module
        self._capsys = capsys
        self._remote_tmp = remote_tmp
        self.printed = ""

    def __call__(self, arguments: Mapping[str, Any], *, check: bool = False) -> dict[str, Any]:
        """Return the module's result, failed ones included."""
        internal = {
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(self._remote_tmp),
        }
        with patch_module_args({**arguments, **internal}), pytest.raises(SystemExit):
            self._module.main()
        self.printed = self._capsys.readouterr().out
        result: dict[str, Any] = json.loads(self.printed)
        return result
