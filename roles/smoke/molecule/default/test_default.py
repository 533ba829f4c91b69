"""The role, applied once more by itself, sees the database and names the first thing that is not there."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


def apply_role():
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={ROOT / '.config/molecule/inventory'}",
        str(Path(__file__).with_name("converge.yml")),
    ]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_each_step_is_shown_until_one_is_not_seen():
    done = apply_role()

    assert done.returncode == 0, done.stdout
    assert "run migrations        ok" in done.stdout
    assert "seed minimal catalog  FAILED" in done.stdout
    assert "tenant acme-telecom has no active catalog version" in done.stdout


def test_the_observer_can_only_read(host):
    query = "PGPASSWORD=passwordOfTheTest1 psql -h 10.56.3.11 -U cpq_observer cpq -c 'DELETE FROM cpq.tenant'"

    assert "permission denied" in host.run(query).stderr
