"""Runs operators' commands on a host: several in one process and one round trip, with their results in the task's own.

Each entry of `commands` is one of
  {run: [words], plan: [words]}   changes something; in check mode its plan runs instead
  {read: [words]}                 changes nothing and runs in check mode too
  {note: [words]}                 writes the release's journal: the run's own record, no change to the platform; not in check mode
with an optional `input`, the JSON document that the command reads from standard input. The word HOLDER stands for the
name of this playbook's process, by which the journal knows who holds a release, KNOWN for where this machine's copy of the
record of releases ends; what notes put on record is added to the copy. `if_installed`: a host without the commands, as
before a first release, is no failure. `by_release`: the commands of that release, which is still on the host, in place of those in use.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).resolve().parents[2]))

from playbooks.module_utils.record_copy import RecordCopy

DOCUMENTATION = r"""
name: cpq_admin
short_description: Run commands of cpq-oms-admin
description: See the module's own text.
"""

EXIT_NOT_FOUND = 127
WRAPPER = "/usr/local/bin/cpq-oms-admin"
CHECKOUT = Path(__file__).resolve().parents[2]
KINDS = ("run", "read", "note")


class ActionModule(ActionBase):
    """Translates entries to one `cpq-oms-admin batch`, and its outcome to a task result."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"commands", "release_id", "here", "keep_going", "if_installed", "by_release"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run what check mode allows and report what it does not."""
        super().run(tmp, task_vars)
        options = self._task.args
        copy = RecordCopy(Path(self._templar.template((task_vars or {})["cpq_state_dir"])) / "release-record.jsonl")
        entries = [_Entry(entry, copy) for entry in options.get("commands", ())]
        due = [(entry, words) for entry in entries if (words := entry.chosen(check_mode=self._task.check_mode))]
        allowed = [entry for entry, _ in due]
        left_out = [shlex.join(entry.words) for entry in entries if entry not in allowed]
        if left_out:
            Display().display(f"    would run: {'; '.join(left_out)}")
        if not due:
            return {"changed": False, "results": []}
        items = [{"arguments": [*words], "input": entry.input} for entry, words in due]
        keep_going = ["--keep-going"] if options.get("keep_going") else []
        chosen_release = ["--release", options["by_release"]] if options.get("by_release") else []
        code, output, errors = self._execute(
            json.dumps(items), chosen_release, keep_going, here=bool(options.get("here"))
        )
        if code == EXIT_NOT_FOUND and options.get("if_installed"):
            return {"changed": False, "results": [], "by_command": {}, "absent": True}
        if code == EXIT_NOT_FOUND:
            pending = "; ".join(shlex.join(words) for _, words in due)
            if self._task.check_mode:
                Display().display(f"    would run, once cpq-oms-admin is installed here: {pending}")
                return {"changed": any(entry.changes for entry in entries), "results": [], "absent": True}
            raise AnsibleActionFail(f"cpq-oms-admin is not installed here, needed for: {pending}")
        result = self._result(output, errors, entries)
        # What only reads the record shows it without its seals, and the copy may not be so far yet.
        for entry, one in zip(allowed, result["results"], strict=False):
            if entry.kind == "note":
                copy.append(one["data"].get("entries", ()))
        return result

    def _execute(self, document: str, release: list[str], options: list[str], *, here: bool) -> tuple[int, str, str]:
        words = ["--json", "--operator", operator(), "batch", *options]
        if here:
            command = [sys.executable, "-m", "app.entrypoints.admin", *words]
            done = subprocess.run(command, cwd=CHECKOUT, input=document, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        answer = self._low_level_execute_command(shlex.join([WRAPPER, *release, *words]), in_data=document.encode())
        return answer["rc"], answer["stdout"], answer["stderr"]

    def _result(self, output: str, errors: str, entries: list[_Entry]) -> dict[str, Any]:
        try:
            document = json.loads(output)
            results = document["data"]["results"]
        except (ValueError, KeyError):
            # A result, not an exception: a task that can do without the answer says so by failed_when.
            reason = (errors or output).strip() or "no output"
            message = f"cpq-oms-admin gave no answer: {reason[-2000:]}"
            return {"failed": True, "changed": False, "msg": message, "results": [], "by_command": {}}
        planned = self._task.check_mode and any(entry.changes for entry in entries)
        changes = document["changes"]
        installed = document["data"].get("release_id")
        expected = self._task.args.get("release_id")
        outdated = planned and expected is not None and installed != expected
        for line in _lines(results):
            Display().display(line)
        result: dict[str, Any] = {
            "changed": document["changed"] or (planned and bool(changes)) or outdated,
            "changes": changes,
            "results": results,
            "by_command": {_command_of(result["arguments"]): result for result in results},
            "diff": [{"prepared": "\n".join(changes)}] if changes else [],
        }
        if self._task.diff and not self._task.check_mode and not result["changed"]:
            # What a plan found is changed by a later task, which may be a job on the host and cannot name it.
            for change in changes:
                Display().display(f"    pending: {change}")
        if outdated:
            Display().display(f"    planned by release {installed}; {expected} is not installed yet and may plan more")
        if document["problems"]:
            # In check mode a plan may stand on a change that was not made.
            result["failed"] = True
            result["msg"] = "; ".join(document["problems"])
        return result


class _Entry:
    """One command of the task."""

    def __init__(self, entry: Mapping[str, Any], copy: RecordCopy) -> None:
        unknown = sorted(set(entry) - {*KINDS, "plan", "input"})
        kinds = [kind for kind in KINDS if kind in entry]
        if unknown or len(kinds) != 1:
            raise AnsibleActionFail(f"a command has exactly one of {', '.join(KINDS)}, not {', '.join(sorted(entry))}")
        self.kind = kinds[0]
        self.input = entry.get("input")
        self.changes = self.kind == "run"
        self.words = _words(entry[self.kind], copy)
        self._plan = _words(entry.get("plan", ()), copy)

    def chosen(self, *, check_mode: bool) -> list[str]:
        """The words to run; none where check mode forbids them."""
        if not check_mode or self.kind == "read":
            return self.words
        return self._plan if self.changes else []


def operator() -> str:
    """The person at this machine: who used sudo, or whom the process belongs to."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def holder() -> str:
    """The name of this playbook's process: the outermost ansible-playbook above the worker that runs this task."""
    pid = found = os.getpid()
    while pid > 1:
        if "ansible-playbook" in _command_line(pid):
            found = pid
        pid = _parent(pid)
    return _name(found)


def living() -> Iterator[str]:
    """Every playbook of this machine, as holder() would name it."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and "ansible-playbook" in _command_line(int(folder.name)):
            try:
                yield _name(int(folder.name))
            except FileNotFoundError:
                continue


def _words(words: Any, copy: RecordCopy) -> list[str]:
    spread: list[str] = []
    for word in words:
        if word == "HOLDER":
            spread.append(holder())
        elif word == "KNOWN":
            spread += copy.known()
        elif word == "LIVING":
            spread += [part for name in sorted(living()) for part in ("--living", name)]
        else:
            spread.append(str(word))
    return spread


def _command_of(arguments: list[str]) -> str:
    """The words before the first option: the command's own name, with its arguments if it has any."""
    return " ".join(itertools.takewhile(lambda word: not word.startswith("-"), arguments))


def _name(pid: int) -> str:
    """Name a process so that a reused number, after a reboot too, is not taken for it."""
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    machine = Path("/etc/machine-id")
    identity = machine.read_text().strip()[:8] if machine.is_file() else ""
    user = pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name
    return f"{user}@{socket.gethostname()}{'-' if identity else ''}{identity}:{pid}:{boot}-{status[19]}"


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _lines(results: list[dict[str, Any]]) -> Iterator[str]:
    """The judged measurements, as a table."""
    checks = [check for result in results for check in result["checks"]]
    width = max((len(check["name"]) for check in checks), default=0)
    for check in checks:
        limit = f"  [{check['limit']}]" if check["limit"] else ""
        yield f"    {check['name']:<{width}}  {check['verdict']:<12}  {check['measured']}{limit}"
