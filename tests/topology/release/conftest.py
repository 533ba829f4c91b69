"""Release runs of the environment for tests, with a hand in between: what happens at a line of the runbook's output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.process_tree import descendants, end
from tests.support.released_host import ReleasedHost, find_host
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = Path(os.environ.get("CPQ_TEST_INVENTORY", ROOT / "tests/support/inventories/ci"))
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
RUN_SECONDS = 240
TIMERS = tuple(yaml.safe_load((ROOT / "playbooks/release/vars.yml").read_text())["release_risky_timers"])
TIMER = TIMERS[0]
# Lets those timers run again when the release is gone.
LEASE = "cpq-oms-resume.timer"
TENANT = "acme-telecom"
# How the runbook announces where it is, or, for a step, has been.
TIMERS_PAUSED = " Stop them for the time of the release"
BASELINE_TAKEN = "release_checks : Run | Judge the platform: baseline"
SMOKE_SEEN = "smoke : Run |"


@dataclass(frozen=True)
class Run:
    """One finished run of the runbook."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        recap = self.output.partition("PLAY RECAP")[2]
        return sum(int(word.removeprefix("changed=")) for word in recap.split() if word.startswith("changed="))

    def stopped_by(self, name: str) -> bool:
        """Whether the release failed and its message names the check."""
        reasons = [line for line in self.output.splitlines() if f"{name}: " in line and "passed" not in line]
        return self.code != 0 and bool(reasons)


@dataclass
class Environment:
    """The released environment, and the means to plant faults in it."""

    host: ReleasedHost
    bundle: Path

    @property
    def arguments(self) -> list[str]:
        """What each run is given."""
        return ["-e", f"release_bundle={self.bundle}"]

    def release(
        self,
        *extra: str,
        playbooks: tuple[str, ...] = ("release.yml",),
        at: Mapping[str, Callable[[], object]] | None = None,
        reports: bool = False,
    ) -> Run:
        """Run the runbook; call what `at` says as soon as a line of output has the text.

        Args:
            reports: whether it leaves a report, and a support bundle where it fails, which takes some seconds of each failure.
        """
        waiting = dict(at or {})
        lines: list[str] = []
        with self.start(*extra, playbooks=playbooks, reports=reports) as process:
            assert process.stdout is not None
            stop = threading.Timer(RUN_SECONDS, self.kill, [process])
            stop.start()
            try:
                for line in process.stdout:
                    lines.append(line)
                    for text in [text for text in waiting if text in line]:
                        waiting.pop(text)()
            except BaseException:
                self.kill(process)
                raise
            finally:
                stop.cancel()
        return Run(process.returncode, "".join(lines))

    def start(
        self, *extra: str, playbooks: tuple[str, ...] = ("release.yml",), reports: bool = False
    ) -> subprocess.Popen[str]:
        """Start the runbook in a process group of its own."""
        given = [] if "-i" in extra else ["-i", str(INVENTORY)]
        # A rollback finds its bundle by itself.
        arguments = [] if "rollback.yml" in playbooks else self.arguments
        command = [str(ANSIBLE), *given, *playbooks, *arguments, *extra]
        # The one that is named in place of the report is always on.
        callbacks = {} if reports else {"ANSIBLE_CALLBACKS_ENABLED": "preload"}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "ANSIBLE_NOCOLOR": "1", **callbacks},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        """Kill the playbook and its workers at once, as a dying control machine would."""
        end(descendants(process.pid), signal.SIGKILL)
        process.wait()

    def kill_at(self, *texts: str) -> None:
        """Run the runbook and kill it once its output has had each of the texts; fail when it ended before."""
        waiting = list(texts)
        said: list[str] = []
        with self.start() as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if waiting and waiting[0] in line:
                    waiting.pop(0)
                if not waiting:
                    self.kill(process)
                    break
        assert process.returncode == -signal.SIGKILL, f"it ended before: {waiting}\n{''.join(said)}"

    def copied_bundle(self, folder: Path) -> Path:
        """The released bundle, with files of its own where a release reads them without installing anything: to be spoilt."""
        copy = shutil.copytree(self.bundle, folder, copy_function=os.link)
        for name in ("bpmn", "contracts", "migrations"):
            shutil.rmtree(copy / name)
            shutil.copytree(self.bundle / name, copy / name)
        return copy

    def sql(self, statement: str) -> list[str]:
        """Run a statement as the database's own superuser; rows with | between columns."""
        command = "runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 cpq"
        return self.host.run(command, standard_input=statement).stdout.splitlines()

    def admin(self, *words: str) -> dict[str, Any]:
        """Run an operator's command on the host."""
        done = self.host.run(f"cpq-oms-admin --json {' '.join(words)}", check=False)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    @contextmanager
    def statement(self, plant: str, heal: str) -> Iterator[None]:
        """A fault in the database."""
        self.sql(plant)
        try:
            yield
        finally:
            self.sql(heal)

    @contextmanager
    def cut(self, port: int) -> Iterator[None]:
        """A port of the host that answers nobody."""
        table = "inet cpq_test_fault"
        rules = f"add table {table}; add chain {table} cut {{ type filter hook input priority -10; }}; "
        rules += f"add rule {table} cut tcp dport {port} reject with tcp reset"
        self.host.run(f"nft '{rules}'")
        try:
            yield
        finally:
            self.host.run(f"nft delete table {table}")

    @contextmanager
    def held(self, statement: str) -> Iterator[None]:
        """A session that executes a statement and stays in its transaction."""
        with self.session(f"BEGIN; {statement}; SELECT 'held';") as output:
            while "held" not in output.readline():
                pass
            yield

    @contextmanager
    def session(self, statements: str) -> Iterator[Any]:
        """A psql of its own that stays open until the end."""
        config = f"/var/lib/cpq-oms/{self.host.environment}/ssh_config"
        command = "runuser -u postgres -- psql -qAtX cpq"
        with subprocess.Popen(
            ["ssh", "-F", config, self.host.name, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(statements + "\n")
            process.stdin.flush()
            try:
                yield process.stdout
            finally:
                process.stdin.close()

    def main_pids(self) -> dict[str, str]:
        """The main process of each running unit."""
        listed = self.host.run("systemctl show 'cpq-oms-*.service' --property=Id,MainPID,ActiveState").stdout
        units = [dict(line.split("=", 1) for line in block.splitlines()) for block in listed.split("\n\n") if block]
        return {unit["Id"]: unit["MainPID"] for unit in units if unit["ActiveState"] == "active"}

    def timer_runs(self) -> bool:
        """Whether the timers that releases pause are running."""
        return all(map(self.host.is_active, TIMERS))

    def last_run(self) -> tuple[str, str]:
        """State and paused timers of the newest release in the journal."""
        row = self.sql("SELECT state, paused_timers FROM cpq.release_run ORDER BY started_at DESC LIMIT 1")[0]
        state, _, timers = row.partition("|")
        return state, timers

    def token(self) -> str:
        """A token of a client of the demo tenant."""
        form = {
            "grant_type": "client_credentials",
            "tenant": TENANT,
            "scope": "quote:read quote:write order:read order:write catalog:read",
        }
        secret = self.host.secret("issuer_client_secret")
        answer = httpx.post(f"http://{self.host.address}:8090/issuer/token", data=form, auth=("tests", secret))
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    @contextmanager
    def traffic(self, path: str, pause: float = 0.05) -> Iterator[Callable[[], None]]:
        """A client that asks for a path again and again from the moment it is told to until the end."""
        begin, end = threading.Event(), threading.Event()
        headers = {"Authorization": f"Bearer {self.token()}"}

        def ask() -> None:
            begin.wait(RUN_SECONDS)
            while not end.wait(pause):
                httpx.get(f"http://{self.host.address}:8080{path}", headers=headers, timeout=10)

        client = threading.Thread(target=ask)
        client.start()
        try:
            yield begin.set
        finally:
            end.set()
            begin.set()
            client.join()

    def until(self, condition: Callable[[], bool], claim: str, seconds: float = 60) -> None:
        """Return when the condition holds."""
        until(condition, claim, seconds)

    def make_pending(self) -> None:
        """Something small for the next release to do, so that it is no unchanged one: a declared flag without a value."""
        self.sql("DELETE FROM cpq.feature_flag WHERE flag = 'order-fulfillment-start'")

    def make_proven(self) -> None:
        """As if the newest release had come to a good end, so that the next one has nothing to prove by an order."""
        self.sql(
            "UPDATE cpq.release_run SET state = 'succeeded' "
            "WHERE run_id = (SELECT run_id FROM cpq.release_run ORDER BY started_at DESC LIMIT 1)"
        )


@pytest.fixture(scope="session")
def environment() -> Environment:
    """The environment for tests, with the newest bundle released to it."""
    newest = sorted((ROOT / "dist").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    found = Environment(find_host(), Path(os.environ.get("CPQ_TEST_BUNDLE") or newest[-1].parent))
    run = found.release()
    assert run.code == 0, run.output
    return found
