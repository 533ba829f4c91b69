"""Leaves the report of each release and rollback, whatever way it ends: done, refused, failed, a host lost, or ended by hand.

It listens from the task `release_report` on, which says where the report goes; without that task, as in check mode or for a plan, it
does nothing. Where a release failed after it may have changed something, `support_bundle.yml` collects what there is to know.
Neither hides why the release failed, nor lets one fail that did not.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from ansible import constants, context
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback import CallbackBase

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils.masking import without_likely_secrets
from playbooks.module_utils.release_account import Account, Json
from playbooks.module_utils.support_archive import running

DOCUMENTATION = """
name: release_report
type: notification
short_description: the page and the data that each release leaves
description: See the module's own text.
requirements: [enabled in ansible.cfg]
"""

CHECKOUT = Path(__file__).resolve().parents[2]
STEPS = CHECKOUT / "app/contracts/release_steps.yml"
SUPPORT_SECONDS = 300.0


class CallbackModule(CallbackBase):
    """Tells an account what happens, and writes it at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "release_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        steps = yaml.safe_load(STEPS.read_text(encoding="utf-8"))["steps"]
        self._account = Account({step["play"]: step for step in steps})
        self._is_written = False
        self._task_began = 0.0
        self._process = os.getpid()
        self._wall = time.time() - time.monotonic()
        # Who ends a release by hand leaves its report all the same.
        atexit.register(self._interrupted)

    def _now(self) -> float:
        # Durations stay right where somebody sets the clock meanwhile.
        return self._wall + time.monotonic()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._account.play(play.get_name().strip(), self._now(), only_looks="plan" in play.tags)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._task_began = time.monotonic()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._task_began = time.monotonic()

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if isinstance(result.task, TaskInclude):
            return
        self._note("changed" if result.result.get("changed") else "ok", result)
        self._hear(result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        self._note("skipped", result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._note("ok" if ignore_errors else "failed", result)
        self._hear(result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        self._note("ok" if result.task.ignore_unreachable else "unreachable", result)

    def _note(self, outcome: str, result: CallbackTaskResult) -> None:
        seconds = time.monotonic() - self._task_began
        message = str(result.result.get("msg") or result.result.get("censored") or "no reason given").strip()
        name = str(result.task.get_name()).strip()
        self._account.task_ended(
            name, result.host.get_name(), outcome, seconds=seconds, message=message, result=result.result
        )

    def _hear(self, result: CallbackTaskResult) -> None:
        """Take from a result what the report shows, by the task's module."""
        found, module = result.result, result.task.action
        if module == "release_report":
            self._account.began(found["told"])
        elif module == "release_preflight" and found.get("release_id"):
            manifest = Path(found["bundle"]) / "manifest.json"
            self._account.judged({**found, "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest()})
        elif module == "release_facts" and "installed" in found:
            self._account.looked(result.host.get_name(), found)
        elif module == "cpq_admin":
            self._account.commanded(found.get("results") or ())
        elif module == "smoke_order":
            self._account.proven(found.get("steps") or ())
        elif module == "prometheus_figures" and "figures" in found:
            self._account.measured(found["figures"])

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._account.end(self._now())
        if not self._account.has_begun:
            return
        result = "failed" if stats.failures or stats.dark else "succeeded"
        ended = self._now()
        # It is there before anything else is tried.
        self._write(self._account.document(ended, result=result))
        if result == "failed" and self._account.may_have_changed_something:
            self._display.display("\nsupport bundle: it is collected from the hosts ...")
            support = self._support_bundle()
            path = self._folder / support["file"]
            # What runs now has been seen by it, and is no longer what steps alone can tell.
            for host, found in running(path).items() if support["file"] else ():
                self._account.looked(host, found)
            self._write({**self._account.document(ended, result=result), "support": support})
            self._display.display(
                f"support bundle: {path if support['file'] else 'not written: ' + support['problem']}"
            )
        self._display.display(f"report: {self._folder / 'report.html'}")

    def _interrupted(self) -> None:
        # Workers of Ansible are copies of this process, and have nothing to say.
        if os.getpid() == self._process and self._account.has_begun and not self._is_written:
            self._account.end(self._now())
            self._write(self._account.document(self._now(), result="interrupted"))

    @property
    def _folder(self) -> Path:
        return Path(self._account.told["folder"]) / str(self._account.told["run"])

    def _write(self, run: Json) -> None:
        self._is_written = True
        # What draws a page is loaded by releases alone, and not by every playbook.
        pages = importlib.import_module("playbooks.module_utils.release_page")
        try:
            pages.written(self._folder, without_likely_secrets(run))
        except OSError as error:
            self._display.warning(f"the report of this release cannot be written: {error}")

    def _support_bundle(self) -> Json:
        """Run the playbook that collects it, beside this one that has ended; return its file, or why there is none."""
        name = f"support-{self._account.told['run']}.tar.gz"
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(CHECKOUT / "playbooks/support_bundle.yml"),
        ]
        command += [word for inventory in context.CLIARGS["inventory"] for word in ("-i", inventory)]
        command += [word for given in context.CLIARGS["extra_vars"] for word in ("-e", given)]
        command += ["-e", f"support_bundle_run={self._account.told['run']}"]
        # The times of the plays are those of the release.
        surroundings = {name: value for name, value in os.environ.items() if name != "CPQ_STEP_TIMES"}
        surroundings |= {"ANSIBLE_CONFIG": str(constants.CONFIG_FILE), "ANSIBLE_NOCOLOR": "1"}
        with subprocess.Popen(
            command,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=SUPPORT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return {"file": "", "problem": f"it took longer than {SUPPORT_SECONDS:.0f} s"}
        if (self._folder / name).is_file():
            return {"file": name, "problem": ""}
        return {"file": "", "problem": _reason(said) or f"support_bundle.yml exited {process.returncode}"}


def _reason(said: str) -> str:
    """Return why a playbook failed, as its own output says; a host that does not answer is no reason."""
    lines = [line.strip() for line in said.partition("FAILED  ")[2].splitlines()]
    return next((line.removeprefix("reason ").strip() for line in lines if line.startswith("reason ")), "")
