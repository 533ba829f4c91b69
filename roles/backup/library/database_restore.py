#!/usr/bin/python
"""Ansible module: restore a stopped PostgreSQL server from the repository, as far as a declared point, and leave it stopped.

Recovery is done here and not by whoever runs the server afterwards: alone, through its local socket only, so that nobody writes to a
database whose end nobody has seen yet, and a target that is never reached is an error with its reason and no half-recovered primary.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: database_restore
short_description: Restore a stopped PostgreSQL server as far as a declared point
description:
  - Runs pgBackRest and the server as the operating system's user C(postgres).
  - Refuses while a server runs on the data directory.
  - With V(checked) nothing is changed.
options:
  state: {description: Whether to restore or only to look whether it could be., type: str, choices: [checked, restored], default: restored}
  stanza: {description: Name of the cluster in the repository., type: str, required: true}
  version: {description: Major version., type: str, required: true}
  data: {description: Data directory., type: path, required: true}
  configuration: {description: The server's configuration file., type: path, required: true}
  port: {description: Port that names the socket., type: int, required: true}
  type: {description: To where., type: str, choices: [latest, time, name, lsn], required: true}
  target:
    description: >-
      For V(time) a time with its zone, such as C(2026-11-29 00:50:00+00); for V(name) a restore point; for V(lsn) a place in the log, which
      is not replayed itself.
    type: str
    default: ""
attributes:
  check_mode: {support: none}
"""

EXAMPLES = r"""
- name: Restore as it was before the mistake
  database_restore:
    stanza: cpq
    version: "17"
    data: /var/lib/postgresql/17/cpq
    configuration: /etc/postgresql/17/cpq/postgresql.conf
    port: 5432
    type: time
    target: "2026-11-29 00:50:00+00"
"""

RETURN = r"""
seconds: {description: How long restore and recovery took., returned: restored, type: float}
recovered_until: {description: When the last transaction that was replayed was committed; empty without any., returned: restored, type: str}
"""

SOCKET = "/var/run/postgresql"
LOG = Path("/var/lib/postgresql/restore.log")
SHOWN_LINES = 25
PAUSE_SECONDS = 0.3
STOP_SECONDS = 600
FORMS = {
    "latest": r"",
    "time": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:\d\d)?",
    "name": r"[A-Za-z0-9_.-]{1,63}",
    "lsn": r"[0-9A-F]{1,8}/[0-9A-F]{1,8}",
}
EXPECTED = {
    "latest": "no target",
    "time": "a time with its zone, such as 2026-11-29 00:50:00+00",
    "name": "the name of a restore point",
    "lsn": "a place in the log, such as 0/3000148",
}
# What a restore writes there would steer the next standby that is copied from this server.
RESET = """
SELECT format('ALTER SYSTEM RESET %I;', name) FROM pg_file_settings
WHERE sourcefile LIKE '%/postgresql.auto.conf' AND (name LIKE 'recovery\\_target%' OR name = 'restore_command')
GROUP BY name \\gexec
"""
REPLAYED = re.compile(r"last completed transaction was at log time (.+)")


class RestoreError(Exception):
    """What stands against it, in one line."""


def target_problem(kind: str, target: str) -> str:
    """Say what is wrong with a target, or nothing."""
    if re.fullmatch(FORMS[kind], target):
        return ""
    return f"restore_target: expected {EXPECTED[kind]} for restore_type={kind}, found {target or 'nothing'!r}"


def target_options(kind: str, target: str) -> list[str]:
    """Return what pgBackRest is told."""
    if kind == "latest":
        return ["--type=default"]
    exclusive = ["--target-exclusive"] if kind == "lsn" else []
    return [f"--type={kind}", f"--target={target}", *exclusive, "--target-action=promote"]


def server_log() -> str:
    """Return the end of what the server said."""
    return " | ".join(LOG.read_text(errors="replace").splitlines()[-SHOWN_LINES:]) if LOG.exists() else ""


class Server:
    """The stopped server."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._data = Path(parameters["data"])
        self._stanza = parameters["stanza"]
        self._port = parameters["port"]
        self._options = f"-c config_file={parameters['configuration']} -c listen_addresses='' -c hot_standby=off"
        self._control = f"/usr/lib/postgresql/{parameters['version']}/bin/pg_ctl"

    def runs(self) -> bool:
        """Whether a server holds the data directory or answers at its socket."""
        held = self._run(self._control, "--pgdata", str(self._data), "status", check=False).returncode == 0
        return held or self._run("pg_isready", f"--host={SOCKET}", f"--port={self._port}", check=False).returncode != 2

    def has_backup(self) -> bool:
        """Whether the repository answers and has one."""
        command = ("pgbackrest", f"--stanza={self._stanza}", "--output=json", "info")
        return '"backup":[{' in self._run(*command).stdout

    def restore(self, options: Sequence[str]) -> str:
        """Restore, recover, promote, stop; return until when."""
        self._data.mkdir(mode=0o700, exist_ok=True)
        command = ("pgbackrest", f"--stanza={self._stanza}", "--delta", "--target-timeline=latest", *options, "restore")
        self._run(*command)
        LOG.unlink(missing_ok=True)
        # The server inherits what pg_ctl has, and a pipe would stay open for as long as it runs.
        start = ["--no-wait", f"--log={LOG}", "--options", self._options, "start"]
        self._run(self._control, "--pgdata", str(self._data), *start, output=subprocess.DEVNULL)
        try:
            self._recover()
            self._run("psql", "-XqAt", f"--host={SOCKET}", f"--port={self._port}", "--set=ON_ERROR_STOP=1", given=RESET)
        finally:
            # A clean stop hands over the last of the new history's log.
            stop = ["--mode=fast", "--wait", f"--timeout={STOP_SECONDS}", "stop"]
            self._run(self._control, "--pgdata", str(self._data), *stop, check=False)
        found = REPLAYED.findall(LOG.read_text())
        return found[-1] if found else ""

    def _recover(self) -> None:
        """Wait until recovery is over: the server lets nobody in before, and ends where it does not reach its target."""
        while self._run("pg_isready", f"--host={SOCKET}", f"--port={self._port}", check=False).returncode:
            time.sleep(PAUSE_SECONDS)
            if self._run(self._control, "--pgdata", str(self._data), "status", check=False).returncode:
                raise RestoreError(f"the server ended before it was recovered: {server_log()}")

    def _run(
        self, *command: str, check: bool = True, given: str = "", output: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["runuser", "-u", "postgres", "--", *command],
            cwd="/",
            input=given,
            stdout=output,
            stderr=output,
            text=True,
            errors="replace",
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout or ''}{done.stderr or ''}".strip()
            if output == subprocess.DEVNULL:
                said = server_log()
            raise RestoreError(f"{Path(command[0]).name} {command[-1]} ended with {done.returncode}: {said}")
        return done


def run(parameters: dict[str, Any]) -> dict[str, Any]:
    """Look, and restore.

    Raises:
        RestoreError: something stands against it.
    """
    if problem := target_problem(parameters["type"], parameters["target"]):
        raise RestoreError(problem)
    server = Server(parameters)
    if server.runs():
        raise RestoreError("a server runs here and its rows would be replaced; stop it on every database host first")
    if not server.has_backup():
        raise RestoreError(f"the repository has no backup of {parameters['stanza']}")
    if parameters["state"] == "checked":
        return {"changed": False}
    started = time.monotonic()
    until = server.restore(target_options(parameters["type"], parameters["target"]))
    return {"changed": True, "seconds": round(time.monotonic() - started, 1), "recovered_until": until}


def main() -> None:
    """Restore, or say why not."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["checked", "restored"], "default": "restored"},
            "stanza": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "data": {"type": "path", "required": True},
            "configuration": {"type": "path", "required": True},
            "port": {"type": "int", "required": True},
            "type": {"type": "str", "choices": list(FORMS), "required": True},
            "target": {"type": "str", "default": ""},
        }
    )
    try:
        module.exit_json(**run(module.params))
    except RestoreError as problem:
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
