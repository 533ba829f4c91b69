"""One line per finished task with its time, one block per failure, and Ansible's own recap at the end.

The default output prints a banner, a host line and an empty line for each task, and on failure a JSON dump of a screen or
more. Here an operator sees what changed and how long it took, and a failure says where, on which host and why. Verbose
runs (-v) show full results as the default does. With CPQ_STEP_TIMES set to a path, the time of each play is left there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

DOCUMENTATION = """
name: steps
type: stdout
short_description: one line per task with its time
description: Step by step progress for operators, with one clear block per failure.
extends_documentation_fragment: [default_callback, result_format_callback]
"""

COLOURS = {
    "ok": constants.COLOR_OK,
    "changed": constants.COLOR_CHANGED,
    "skipped": constants.COLOR_SKIP,
    "failed": constants.COLOR_ERROR,
    "unreachable": constants.COLOR_UNREACHABLE,
    "ignored": constants.COLOR_WARN,
}
# Worst first: a task over several hosts is as good as its worst host.
ORDER = ("unreachable", "failed", "ignored", "changed", "ok", "skipped")


class CallbackModule(DefaultCallback):
    """Collects a task's results until the next task starts, then prints them as one line."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "steps"

    def __init__(self) -> None:
        super().__init__()
        self._task: Any = None
        self._task_started = 0.0
        self._outcomes: dict[str, list[str]] = {}
        self._details: list[tuple[str, str | None]] = []
        self._play: Any = None
        self._heading = ""
        self._play_started = 0.0
        self._plays: list[tuple[str, float]] = []
        self._failures: list[str] = []
        self._announced = False

    # -- plays

    def v2_playbook_on_start(self, playbook: Any) -> None:
        if self._display.verbosity > 1:
            super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end_play()
        self._play = play
        self._play_started = time.monotonic()
        marker = " (check mode: nothing is changed)" if play.check_mode else ""
        self._heading = f"\n== {play.get_name().strip()}{marker}"

    def _show_heading(self) -> None:
        """A play that tags leave no task of is not mentioned."""
        if self._heading:
            self._display.display(self._heading, color=constants.COLOR_HIGHLIGHT)
            self._heading = ""

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._show_heading()
        self._display.display("   no host to do it for", color=constants.COLOR_SKIP)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        self._end_task()

    def _end_play(self) -> None:
        self._end_task()
        if self._play is None:
            return
        seconds = time.monotonic() - self._play_started
        self._plays.append((self._play.get_name().strip(), round(seconds, 2)))
        self._play = None
        if times := os.environ.get("CPQ_STEP_TIMES"):
            Path(times).write_text(json.dumps(self._plays))

    # -- tasks

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._start_task(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._start_task(task)

    def _start_task(self, task: Any) -> None:
        self._end_task()
        self._show_heading()
        self._task = task
        self._task_started = time.monotonic()
        if sys.stdout.isatty() and not self._display.verbosity:
            # Overwritten by the finished line; without a terminal there is nothing to overwrite.
            sys.stdout.write(f"   ...              {_name(task)[:90]}\r")
            sys.stdout.flush()
            self._announced = True

    def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        if self._announced:
            sys.stdout.write("\033[K")
            self._announced = False
        outcomes, self._outcomes = self._outcomes, {}
        details, self._details = self._details, []
        worst = next((name for name in ORDER if name in outcomes), None)
        if worst is not None and (worst != "skipped" or self._display.verbosity):
            seconds = time.monotonic() - self._task_started
            hosts = [host for names in outcomes.values() for host in names]
            who = "" if len(hosts) == 1 and worst in {"ok", "skipped"} else f"  [{', '.join(sorted(outcomes[worst]))}]"
            mode = " (check)" if task.check_mode and worst == "changed" else ""
            self._display.display(f"   {worst:<11} {seconds:6.1f} s  {_name(task)}{mode}{who}", color=COLOURS[worst])
        for text, colour in details:
            self._display.display(text, color=colour)

    def _note(self, outcome: str, result: CallbackTaskResult) -> None:
        if self._task is None or self._task._uuid != result.task._uuid:  # noqa: SLF001 - free strategy: results of an older task
            self._end_task()
            self._task, self._task_started = result.task, time.monotonic()
        self._outcomes.setdefault(outcome, []).append(self.host_label(result))
        self._handle_warnings(result.result)
        if self._run_is_verbose(result) and outcome not in {"failed", "unreachable"}:
            self._clean_results(result.result, result.task.action)
            if result.task.action in constants._ACTION_DEBUG:  # noqa: SLF001 - the default callback asks the same way
                self._details.append((_indented(_said(result.result), 6), None))
            else:
                self._details.append((_indented(self._dump_results(result.result), 6), None))

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if isinstance(result.task, TaskInclude):
            return
        changed = bool(result.result.get("changed"))
        self._note("changed" if changed else "ok", result)
        for line in result.result.get("actions") or () if changed else ():
            self._details.append((f"                         {line}", COLOURS["changed"]))

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        self._note("skipped", result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._note("ignored" if ignore_errors else "failed", result)
        if ignore_errors:
            self._details.append((_indented(_reason(result.result), 25), COLOURS["ignored"]))
        else:
            self._fail("FAILED", result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        self._note("unreachable", result)
        # A delegated task's label names both hosts, the one that was called last.
        host = self.host_label(result).rpartition(" ")[2]
        self._fail(
            "UNREACHABLE", result, f"; see that {host} runs and answers by ssh, then give the same command again"
        )

    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        if self._display.verbosity:
            super().v2_runner_retry(result)

    # Items speak through their task: changed ones by its diff, failed ones by its failure block.

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        if self._display.verbosity:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        pass

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        pass

    def v2_playbook_on_include(self, included_file: Any) -> None:
        pass

    def v2_on_file_diff(self, result: CallbackTaskResult) -> None:
        results = result.result.get("results") if result.task.loop else None
        for one in results or [result.result]:
            if isinstance(one, dict) and one.get("diff") and one.get("changed"):
                diff = self._get_diff(one["diff"])
                # What a module did line by line is printed as its actions already.
                if diff and not one.get("actions"):
                    self._details.append((_indented(diff.rstrip("\n"), 6), None))

    # -- failures and the end

    def _fail(self, what: str, result: CallbackTaskResult, remedy: str = "") -> None:
        found = result.result
        lines = [
            f"{what}  {result.task.get_name().strip()}",
            f"  host     {self.host_label(result)}",
            f"  play     {self._play.get_name().strip() if self._play else '-'}",
            f"  at       {_relative(result.task.get_path())}",
            f"  reason   {_reason(found)}{remedy}",
        ]
        failed_items = [
            one
            for one in found.get("results") or ()
            if isinstance(one, dict) and (one.get("failed") or one.get("unreachable"))
        ]
        lines += [f"  item     {self._get_item_label(one)}: {_reason(one)}" for one in failed_items]
        for one in failed_items or [found]:
            for stream in ("stdout", "stderr", "module_stdout", "module_stderr"):
                text = str(one.get(stream) or "").strip()
                if text and text not in lines[4]:
                    lines.append(f"  {stream}")
                    lines += [f"    {line}" for line in text.splitlines()[-25:]]
        block = "\n".join(lines)
        self._failures.append(block)
        self._details.append((f"\n{block}\n", COLOURS["failed"]))
        if self._display.verbosity:
            self._handle_exception(found)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_play()
        super().v2_playbook_on_stats(stats)
        if len(self._failures) > 1:
            self._display.display(
                f"{len(self._failures)} failures, the first:\n{self._failures[0]}", color=COLOURS["failed"]
            )


def _name(task: Any) -> str:
    return str(task.get_name()).strip()


def _said(result: dict[str, Any]) -> str:
    message = result.get("msg", {key: value for key, value in result.items() if not key.startswith("_")})
    if isinstance(message, list):
        return "\n".join(str(line) for line in message)
    return message if isinstance(message, str) else json.dumps(message, indent=2, default=str)


def _reason(result: dict[str, Any]) -> str:
    """Return the shortest true answer to "why": the module's message, an argument spec's errors, or what was censored."""
    if result.get("argument_errors"):
        return "; ".join(str(error) for error in result["argument_errors"])
    message = str(result.get("msg") or result.get("censored") or "no reason given").strip()
    return message.replace("\n", "\n           ")


def _relative(path: str) -> str:
    return path.removeprefix(f"{Path.cwd()}/")


def _indented(text: str, width: int) -> str:
    return "\n".join(f"{' ' * width}{line}" for line in text.splitlines())
