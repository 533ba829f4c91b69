"""The role, applied as its scenario applies it, with what it shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def apply_role(request):
    """Give what runs the converge.yml beside the test."""

    def apply():
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={ROOT / '.config/molecule/inventory'}",
            str(request.path.with_name("converge.yml")),
        ]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return apply
