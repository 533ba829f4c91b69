"""Restores the newest backup into a server of its own on the backup host and proves its rows; then it is gone again.

First as after a disaster: newest backup, all archived log. How long that takes is held against the declared recovery time, how old the
newest sign of life in it is against the declared recovery point. It also holds the newest marker (recovery_marker.py): a point in
the log, and what rows there were. Then to that very point: the rows of every table of the proof must be those of the marker, and the
marker's own row, which came after the point, must not be there.

The result is a file, which backup_figures.py shows to alarms. Exit status 1: it failed, and why is in the journal.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from recovery_proof import Server, Settings, differences, digest_query

HOME = Path("/var/lib/restore-drill")
DATA = HOME / "data"
LOG = HOME / "server.log"
RESULT = HOME / "result.json"
CONFIGURATION = "/etc/pgbackrest/drill.conf"
SHOWN_LINES = 20
# It never archives, listens at no address, and replays whatever the limits of the original were.
SERVER_SETTINGS = f"""
data_directory = '{DATA}'
hba_file = '{HOME}/pg_hba.conf'
ident_file = '{HOME}/pg_ident.conf'
listen_addresses = ''
unix_socket_directories = '{HOME}'
archive_mode = off
hot_standby = off
shared_buffers = 128MB
max_wal_size = 4GB
jit = off
"""
PAUSE_SECONDS = 0.2


class DrillError(Exception):
    """The backup does not prove what it should, and why."""


class Scratch:
    """The server that backups are restored into."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._control = f"/usr/lib/postgresql/{settings.version}/bin/pg_ctl"
        self.server = Server(str(HOME), settings.port)

    def clear(self) -> None:
        """Stop what an earlier drill left and remove its rows."""
        if (DATA / "postmaster.pid").exists():
            self._run(self._control, "--pgdata", str(DATA), "--mode=immediate", "stop", check=False)
        shutil.rmtree(DATA, ignore_errors=True)

    def restore(self, *target: str) -> float:
        """Restore, bring the server up as far as the target, and return how many seconds that took.

        Raises:
            DrillError: pgBackRest or the server refuses.
        """
        started = time.monotonic()
        DATA.mkdir(mode=0o700, exist_ok=True)
        command = ["pgbackrest", f"--config={CONFIGURATION}", f"--stanza={self._settings.stanza}"]
        # What is there already from the first restore is kept where it is the same.
        self._run(*command, "--delta", "--archive-mode=off", "--target-timeline=latest", *target, "restore")
        (HOME / "postgresql.conf").write_text(SERVER_SETTINGS + f"port = {self._settings.port}\n")
        (HOME / "pg_hba.conf").write_text("local all postgres peer\n")
        (HOME / "pg_ident.conf").write_text("")
        LOG.unlink(missing_ok=True)
        start = [self._control, "--pgdata", str(DATA), "--no-wait", f"--log={LOG}"]
        self._run(*start, "--options", f"-c config_file={HOME}/postgresql.conf", "start", quiet=True)
        self._recover()
        return time.monotonic() - started

    def stop(self) -> None:
        """Stop the server."""
        self._run(self._control, "--pgdata", str(DATA), "--mode=fast", "--wait", "stop")

    def _recover(self) -> None:
        """Wait until recovery is over: the server lets nobody in before, and ends where it does not reach its target."""
        ready = ["pg_isready", "--quiet", f"--host={HOME}", f"--port={self._settings.port}"]
        running = [self._control, "--pgdata", str(DATA), "status"]
        while subprocess.run(ready, check=False).returncode:
            time.sleep(PAUSE_SECONDS)
            if subprocess.run(running, stdout=subprocess.DEVNULL, check=False).returncode:
                raise DrillError(f"the server ended before it was recovered: {server_log()}")

    def _run(self, *command: str, check: bool = True, quiet: bool = False) -> None:
        # The server inherits what pg_ctl has, so a pipe would stay open for as long as it runs.
        output = subprocess.DEVNULL if quiet else subprocess.PIPE
        done = subprocess.run(command, cwd="/", stdout=output, stderr=output, text=True, errors="replace", check=False)
        if check and done.returncode:
            said = f"{done.stdout or ''}{done.stderr or ''}".strip()
            if quiet:
                said = server_log()
            raise DrillError(f"{Path(command[0]).name} {command[-1]} ended with {done.returncode}: {said}")


def server_log() -> str:
    """Return the end of what the server said."""
    return " | ".join(LOG.read_text(errors="replace").splitlines()[-SHOWN_LINES:]) if LOG.exists() else ""


def newest_marker(server: Server) -> dict[str, Any]:
    """Return the marker that the restored database knows last.

    Raises:
        DrillError: it knows none.
    """
    rows = server.ask(
        "SELECT json_build_object('name', name, 'at', at, 'lsn', lsn, 'digest', digest) FROM recovery.marker ORDER BY at DESC LIMIT 1;"
    )
    if not rows:
        raise DrillError("no marker in the restored database: nothing says which rows there must be")
    found: dict[str, Any] = json.loads(rows[0])
    return found


def prove(scratch: Scratch, settings: Settings, result: dict[str, Any]) -> None:
    """Restore twice and write what was found into the result.

    Raises:
        DrillError: something is not as it must be.
    """
    began = time.time()
    result["restore_seconds"] = round(scratch.restore("--type=default"), 1)
    (beat,) = scratch.server.ask("SELECT extract(epoch FROM at) FROM recovery.heartbeat;")
    result["recovery_point_age_seconds"] = round(began - float(beat), 1)
    marker = result["marker"] = newest_marker(scratch.server)
    scratch.stop()

    # Exclusive: a restore point's place is where it ends, and what begins there came after it.
    point = ["--type=lsn", f"--target={marker['lsn']}", "--target-exclusive", "--target-action=promote"]
    result["point_in_time_seconds"] = round(scratch.restore(*point), 1)
    (digest,) = scratch.server.ask(digest_query(settings.tables), settings.database)
    result["digest"] = json.loads(digest)
    problems = differences(marker["digest"], result["digest"])
    if scratch.server.ask("SELECT name FROM recovery.marker WHERE name = :'name';", name=marker["name"]):
        problems.append(f"the row of marker {marker['name']} is there, which came after its point")
    scratch.stop()
    if problems:
        raise DrillError(f"at {marker['name']}: {'; '.join(problems)}")


def main() -> int:
    """Drill, and leave the result."""
    settings = Settings.read()
    scratch = Scratch(settings)
    result: dict[str, Any] = {"passed": False, "problem": ""}
    scratch.clear()
    try:
        prove(scratch, settings, result)
        result["passed"] = True
    except DrillError as problem:
        result["problem"] = str(problem)
    except subprocess.CalledProcessError as problem:
        result["problem"] = f"the restored server does not answer: {problem.stderr.strip()}"
    finally:
        scratch.clear()
    result["finished_at"] = datetime.now().astimezone().timestamp()
    new = RESULT.with_suffix(".new")
    new.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    new.rename(RESULT)
    print(json.dumps(result))  # noqa: T201 - the journal keeps it
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
