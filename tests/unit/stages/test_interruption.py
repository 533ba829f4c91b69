"""However a run of the test stages is ended, its clean-up runs; killed outright, it takes what it started with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stages import LOOK_SECONDS
from tests.support.process_tree import descendants, end

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 20
# One stage that would run for an hour, and a clean-up that can be seen.
RUNNER = """
import sys
from pathlib import Path
from tests import stages

def clean_up(chosen):
    Path(sys.argv[1], "cleaned").touch()
    return stages.Result()

stages.STAGES = (stages.Stage("long", lambda: stages.commands({"long": ["sh", "-c", f"echo $$ > {sys.argv[1]}/begun; exec sleep 3600"]})),)
stages.clean_up = clean_up
stages.main([])
"""


@contextmanager
def made(tmp_path: Path, *, ignores_interrupts: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A make whose target runs the stages, in the middle of the long one."""
    (tmp_path / "runner.py").write_text(RUNNER)
    (tmp_path / "Makefile").write_text(f"test:\n\t@true && exec {sys.executable} {tmp_path}/runner.py {tmp_path}\n")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(  # type: ignore[call-overload]
        ["make", "-f", str(tmp_path / "Makefile"), "test"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=_ignore_interrupts if ignores_interrupts else None,  # noqa: PLW1509 - no threads here
        **quiet,
    )
    try:
        until(lambda: (tmp_path / "begun").exists() and bool((tmp_path / "begun").read_text()), "the stage runs")
        yield process
    finally:
        end(descendants(process.pid), signal.SIGKILL)
        process.wait()


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with made(tmp_path) as process:
        yield process


def until(condition: Callable[[], bool], claim: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {claim}"
        time.sleep(0.02)


def is_over(tmp_path: Path) -> bool:
    status = Path("/proc", (tmp_path / "begun").read_text().strip(), "stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_of_make_cleans_up(make: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals) -> None:
    make.send_signal(number)

    until((tmp_path / "cleaned").exists, "the clean-up ran")
    until(lambda: is_over(tmp_path), "what the stage had started is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_end_of_the_runner_cleans_up(make: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals) -> None:
    os.kill(descendants(make.pid)[1], number)

    until((tmp_path / "cleaned").exists, "the clean-up ran")
    until(lambda: is_over(tmp_path), "what the stage had started is gone")


def test_a_killed_runner_leaves_nothing_at_work(make: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.kill(descendants(make.pid)[1], signal.SIGKILL)

    until(lambda: is_over(tmp_path), "what the stage had started is gone")


def test_a_background_shell_that_has_interrupts_ignored_interrupts_nothing(tmp_path: Path) -> None:
    with made(tmp_path, ignores_interrupts=True) as make:
        time.sleep(4 * LOOK_SECONDS)
        assert not (tmp_path / "cleaned").exists()

        make.send_signal(signal.SIGTERM)

        until((tmp_path / "cleaned").exists, "the clean-up ran")


def test_the_end_of_the_shell_that_started_it_in_the_background_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text(RUNNER)
    runner = f"PYTHONPATH={ROOT} {sys.executable} {tmp_path}/runner.py {tmp_path} >/dev/null 2>&1 & echo $!; read _"
    with subprocess.Popen(["sh", "-c", runner], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        process = int(shell.stdout.readline())
        try:
            until(lambda: (tmp_path / "begun").exists() and bool((tmp_path / "begun").read_text()), "the stage runs")
            shell.communicate(b"\n")
            time.sleep(2 * LOOK_SECONDS)
            assert not (tmp_path / "cleaned").exists()
        finally:
            end(descendants(process), signal.SIGKILL)
