"""The services' installation can be killed at any point: the same command resumes, and the end is the declared state."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.process_tree import descendants, end
from tests.support.scratch_environment import ROOT, ScratchEnvironment

SEED = 20261123
HOST = "scratch-1"
GROUPED = """
all:
  hosts:
    scratch-1: {ansible_host: 10.56.4.11}
  children:
    redis: {hosts: {scratch-1: }}
    db: {hosts: {scratch-1: }}
    kafka: {hosts: {}}
    zeebe: {hosts: {}}
    witness: {hosts: {}}
"""
# The image has the packages of all services; without these, the roles have to install them.
PURGE = "dpkg --purge --force-depends redis-server redis-tools postgresql-17"
PATIENCE_SECONDS = 200


@pytest.fixture
def site(scratch: ScratchEnvironment) -> Iterator[ScratchEnvironment]:
    """A host that lacks the packages of its services."""
    assert scratch.set_up("hosts").returncode == 0
    (scratch.inventory / "hosts.yml").write_text(GROUPED)
    purged = scratch.on_host(HOST, PURGE)
    assert purged.returncode == 0, purged.stdout + purged.stderr
    yield scratch
    scratch.write()


def kill_at(site: ScratchEnvironment, task: str, seconds: float, how: str) -> None:
    """Run `make site` and end it some time after it has begun a task, on the host too where that loses its power."""
    process = subprocess.Popen(
        ["make", "site", f"ENV={site.inventory}", "EXTRA=-v"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        lines = []
        for line in output:
            lines.append(line)
            if line.startswith("TASK") and task in line:
                break
        else:
            pytest.fail(f"no task {task}:\n{''.join(lines)}")
        time.sleep(seconds)
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            end(descendants(process.pid), signal.SIGKILL)
        if how == "with the host's package manager":
            site.on_host(HOST, "pkill -KILL -x 'apt-get|dpkg|initdb|pg_createcluster'")
        process.wait(PATIENCE_SECONDS)


def test_services_are_as_declared_after_kills_at_any_point_of_their_installation(site: ScratchEnvironment) -> None:
    # Not for secrets: the same moments every time, so that a failure can be repeated.
    chance = random.Random(SEED)
    kill_at(site, "redis : install | Install the server", chance.uniform(0.5, 2.5), "with the host's package manager")
    kill_at(site, "redis : run | Start the server", 0, "everything")
    kill_at(site, "postgresql : install | Install the server", chance.uniform(0.5, 3), "Ctrl-C")
    kill_at(site, "postgresql : install | Make the cluster", chance.uniform(0.3, 1), "with the host's package manager")

    last = site.set_up("site")

    assert last.returncode == 0, last.stdout + last.stderr
    assert site.on_host(HOST, "dpkg --audit").stdout == ""
    again = site.set_up("site")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "changed=0" in again.stdout.replace("localhost", "").split(HOST)[-1], again.stdout
