"""The installation of Debian's packages can be killed at any point: the same command repairs and finishes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.process_tree import descendants, end
from tests.support.scratch_environment import ROOT, run

SEED = 20261123
IMAGES = Path("/var/cache/cpq-oms/images")
PROGRAM = (
    "import sys; sys.path[:0] = ['/srv/cpq-oms']; import bootstrap; bootstrap.install_packages(bootstrap.BASE_PACKAGES)"
)
PATIENCE_SECONDS = 120


class Machine:
    """A Debian of its own with nothing installed that the set-up needs: an overlay of the hosts' image, entered by chroot."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._output = folder / "output"
        self._log = self.root / "var/log/dpkg.log"
        self._begin = self._lines()

    def start(self) -> subprocess.Popen[bytes]:
        """Start what the set-up does about packages."""
        with self._output.open("wb") as output:
            return subprocess.Popen(
                ["chroot", str(self.root), "/usr/bin/python3", "-c", PROGRAM],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def install(self) -> str:
        """Let it come to its end and return what it said."""
        code = self.start().wait(PATIENCE_SECONDS)
        assert code == 0, self.said()
        return self.said()

    def said(self) -> str:
        """What the newest run has said so far."""
        return self._output.read_text()

    def ask(self, *command: str) -> str:
        """Run a command on it and return what it says."""
        return run(["chroot", str(self.root), *command]).stdout

    def steps(self) -> int:
        """How many steps dpkg has written to its log since the machine was made."""
        return self._lines() - self._begin

    def packages(self) -> list[str]:
        """Every package with its version and state."""
        return self.ask("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\\n").splitlines()

    def _lines(self) -> int:
        return self._log.read_text().count("\n") if self._log.exists() else 0


@pytest.fixture
def new_machine(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Makes machines by name."""
    with ExitStack() as stack:

        def make(name: str) -> Machine:
            folder = tmp_path / name
            image = next(path for path in sorted(IMAGES.glob("[!.]*/root")))
            for part in ("root", "upper", "work"):
                (folder / part).mkdir(parents=True)
            options = f"lowerdir={image},upperdir={folder}/upper,workdir={folder}/work"
            root = folder / "root"
            for kind, source, place in (
                ("overlay", "none", root),
                ("proc", "none", root / "proc"),
                ("", "/dev", root / "dev"),
            ):
                how = ["-t", kind] if kind else ["--bind"]
                run(
                    ["mount", *how, *(["-o", options] if kind == "overlay" else []), source, str(place)]
                ).check_returncode()
                stack.callback(run, ["umount", "--lazy", str(place)])
            shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
            (root / "srv/cpq-oms").mkdir()
            shutil.copy(ROOT / "bootstrap.py", root / "srv/cpq-oms")
            return Machine(folder)

        yield make


def kill_after(machine: Machine, steps: int, how: str) -> None:
    """Install and kill after so many more steps of dpkg."""
    begin, deadline = machine.steps(), time.monotonic() + PATIENCE_SECONDS
    process = machine.start()
    while machine.steps() < begin + steps:
        assert process.poll() is None, f"the kill of {how} after {steps} steps came too late: {machine.said()}"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        end(descendants(process.pid) if how == "everything" else [process.pid], signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)


def test_installation_killed_at_any_step_of_dpkg_is_finished_by_the_next_run(
    new_machine: Callable[[str], Machine],
) -> None:
    undisturbed, machine = new_machine("undisturbed"), new_machine("killed")
    said = undisturbed.install()
    assert undisturbed.ask("dpkg", "--audit") == "", said
    # Not for secrets: the same moments every time, so that a failure can be repeated.
    chance = random.Random(SEED)
    interrupted = []
    # Killed alone, the head leaves dpkg at work, which may then come to its end: so that is the last.
    for how in ("everything", "Ctrl-C", "everything", "head alone"):
        kill_after(machine, chance.randint(1, undisturbed.steps() // 4), how)
        interrupted.append(machine.ask("dpkg", "--audit") != "")

    machine.install()

    assert any(interrupted), "no kill left dpkg half-way: it proves nothing"
    assert machine.ask("dpkg", "--audit") == ""
    assert machine.packages() == undisturbed.packages()
    assert machine.install() == ""


def test_a_package_that_was_torn_while_it_was_unpacked_is_installed_again(
    new_machine: Callable[[str], Machine],
) -> None:
    machine = new_machine("torn")
    machine.install()
    status = machine.root / "var/lib/dpkg/status"
    before, mark, after = status.read_text().partition("Package: make\n")
    status.write_text(
        before + mark + after.replace("Status: install ok installed", "Status: install reinstreq half-installed", 1)
    )
    assert "make" in machine.ask("dpkg", "--audit")

    machine.install()

    assert machine.ask("dpkg", "--audit") == ""
    assert machine.install() == ""
