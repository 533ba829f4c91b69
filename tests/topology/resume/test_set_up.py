"""The set-up can be killed at any point: the same command resumes, and the end is what an undisturbed run leaves."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.process_tree import descendants, end
from tests.support.scratch_environment import ROOT, ScratchEnvironment, run

SEED = 20261122
KILLS = 6


def run_and_kill(command: Sequence[str], after: float, *, everything: bool, cwd: Path = ROOT) -> None:
    """Start a command and kill it, or it and all that it started, after some seconds unless it is done by then."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=cwd, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        end(descendants(process.pid) if everything else [process.pid], signal.SIGKILL)
        process.wait()


def points(seconds: float, count: int) -> list[tuple[float, bool]]:
    """Choose one random moment in each equal part of a run's time, and whether the whole family dies or its head alone."""
    # Not for secrets: the same moments every time, so that a failure can be repeated.
    chance = random.Random(SEED)
    part = seconds / count
    return [(part * number + chance.uniform(0, part), chance.random() < 0.5) for number in range(count)]


def test_hosts_come_up_and_go_down_the_same_after_kills_at_any_point(scratch: ScratchEnvironment) -> None:
    begin = time.monotonic()
    assert scratch.set_up("hosts").returncode == 0
    up_seconds = time.monotonic() - begin
    undisturbed = scratch.traces()
    begin = time.monotonic()
    assert scratch.set_up("down").returncode == 0
    down_seconds = time.monotonic() - begin

    for up, down in zip(points(up_seconds, KILLS), reversed(points(down_seconds, KILLS)), strict=True):
        kill(scratch, "hosts", up)
        last = scratch.set_up("hosts")
        assert last.returncode == 0, f"hosts killed after {up}\n{last.stdout}{last.stderr}"
        assert scratch.traces() == undisturbed, f"hosts killed after {up}"
        assert scratch.on_host("scratch-1", "systemctl is-system-running --wait").stdout.strip() == "running"

        kill(scratch, "down", down)
        last = scratch.set_up("down")
        assert last.returncode == 0, f"down killed after {down}\n{last.stdout}{last.stderr}"
        assert not any(scratch.traces().values()), f"down killed after {down}: {scratch.traces()}"


def kill(scratch: ScratchEnvironment, command: str, point: tuple[float, bool]) -> None:
    after, everything = point
    run_and_kill(["python3", "bootstrap.py", command, "--env", str(scratch.inventory)], after, everything=everything)


def test_image_is_whole_after_its_build_was_killed(scratch: ScratchEnvironment, tmp_path: Path) -> None:
    scratch.cache = tmp_path / "cache"
    scratch.write()
    small = {
        "nspawn_host_packages": ["dbus", "openssh-server", "python3", "systemd", "systemd-sysv"],
        "nspawn_host_disabled_units": [],
    }
    command = ["bootstrap.py", "hosts", "--env", str(scratch.inventory), "--", "-e", json.dumps(small)]
    run_and_kill(["python3", *command], 6, everything=True)
    unfinished = list(scratch.cache.glob("images/.*.unfinished"))
    assert len(unfinished) == 1, "the kill came too late or too early to say anything"
    assert not list(scratch.cache.glob("images/[!.]*"))

    try:
        again = run(["python3", *command])
        assert again.returncode == 0, again.stdout[-3000:]

        images = list(scratch.cache.glob("images/[!.]*"))
        assert len(images) == 1
        assert json.loads((images[0] / "image.json").read_text())["image"] == images[0].name
        assert not list(scratch.cache.glob("images/.*.unfinished"))
        assert not list(Path("/sys/fs/cgroup").glob("*/cpq-image-*"))
        assert scratch.on_host("scratch-1", "systemctl is-system-running --wait").stdout.strip() == "running"
    finally:
        # The image must outlive its hosts, and pytest keeps no folder with a host's mount in it.
        assert scratch.play("hosts_down").returncode == 0
        shutil.rmtree(scratch.cache)


def test_virtual_environment_is_whole_after_its_installation_was_killed_and_after_it_was_damaged(
    tmp_path: Path,
) -> None:
    """In a copy, so that the environment these tests run in stays as it is."""
    copy = tmp_path / "copy"
    (copy / ".config/locks").mkdir(parents=True)
    shutil.copy(ROOT / "bootstrap.py", copy)
    shutil.copy(ROOT / ".config/locks/control.txt", copy / ".config/locks")
    command = [sys.executable, "bootstrap.py", "tools"]
    for after, everything in points(6.0, 3):
        run_and_kill(command, after, everything=everything, cwd=copy)

    done = subprocess.run(command, cwd=copy, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    assert done.returncode == 0, done.stdout + done.stderr
    uv = [str(copy / ".venv/bin/uv"), "pip", "freeze", "--python", str(copy / ".venv/bin/python")]
    # The pip that brought uv is Python's own.
    frozen = {line for line in run(uv).stdout.splitlines() if "==" in line and not line.startswith("pip==")}
    locked = {
        line.split(" ")[0]
        for line in (ROOT / ".config/locks/control.txt").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    assert frozen == locked
    assert not (copy / ".venv/cpq-oms.unfinished").exists()

    [site] = copy.glob(".venv/lib/python3*/site-packages")
    shutil.rmtree(site / "ansible/playbook")
    (copy / ".venv/bin/python").unlink()
    (copy / ".venv/bin/python").symlink_to("/nowhere/python3")
    repaired = subprocess.run(command, cwd=copy, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    started = subprocess.run([str(copy / ".venv/bin/ansible-playbook"), "--version"], check=False, capture_output=True)
    assert started.returncode == 0
