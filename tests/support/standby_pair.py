"""Two plain PostgreSQL servers beside the released one: a primary with its schema and roles, and a standby that streams from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.released_host import ReleasedHost

_PRIMARY_PORT, _STANDBY_PORT = 5598, 5599
_FOLDER = "/var/lib/postgresql/standby-pair"
_UNITS = "standby-pair-primary.service standby-pair-standby.service"
_BIN = "/usr/lib/postgresql/17/bin"
_RUN_SERVER = """
run() {{
  systemd-run --quiet --collect --uid=postgres --unit="standby-pair-$1" {bin}/postgres -D {folder}/"$1" -p "$2" \
    -c listen_addresses={address} -c unix_socket_directories={folder} -c shared_buffers=32MB -c fsync=off
  for _ in $(seq 100); do {bin}/pg_isready -q -h {folder} -p "$2" && return; sleep 0.1; done
  journalctl --no-pager -o cat -u "standby-pair-$1"; return 1
}}
"""
_SET_UP = """
set -eu
{clean_up}
install -d -o postgres -m 0700 {folder}
cd {folder}
as() {{ runuser -u postgres -- "$@"; }}
as {bin}/initdb --no-sync -A peer -D {folder}/primary >/dev/null
printf '%s\\n' 'local all postgres peer' 'local replication postgres peer' 'host cpq all samenet scram-sha-256' > {folder}/primary/pg_hba.conf
run primary {primary}
as pg_dumpall --roles-only | grep -v 'ROLE postgres' | as psql -XqAt -v ON_ERROR_STOP=1 -h {folder} -p {primary} postgres
as pg_dump --create cpq | as psql -XqAt -v ON_ERROR_STOP=1 -h {folder} -p {primary} postgres >/dev/null
as {bin}/pg_basebackup --no-sync -c fast -R -h {folder} -p {primary} -D {folder}/standby
run standby {standby}
"""
_CLEAN_UP = "systemctl stop {units} 2>/dev/null || true; rm -rf {folder}"


@dataclass(frozen=True)
class StandbyPair:
    """Both servers as a unit and their superuser see them."""

    host: ReleasedHost

    def primary_url(self, role: str) -> str:
        """The URL that finds the primary."""
        return f"postgresql://{role}@{self.host.address}:{_PRIMARY_PORT}/cpq"

    def read_url(self, role: str) -> str:
        """The URL that prefers the standby, which is not the first of its hosts."""
        address = self.host.address
        hosts = f"{address}:{_PRIMARY_PORT},{address}:{_STANDBY_PORT}"
        return f"postgresql://{role}@{hosts}/cpq?target_session_attrs=prefer-standby"

    def on_primary(self, statement: str) -> str:
        """Run a statement as the superuser of the primary."""
        return self._superuser(_PRIMARY_PORT, statement)

    def pause_replay(self) -> None:
        """Let the standby receive the log and no longer show it."""
        self._superuser(_STANDBY_PORT, "SELECT pg_wal_replay_pause()")

    def resume_replay(self) -> None:
        """Let the standby show what it has received."""
        self._superuser(_STANDBY_PORT, "SELECT pg_wal_replay_resume()")

    def stop_standby(self) -> None:
        """End the standby."""
        self.host.run("systemctl stop standby-pair-standby.service")

    def _superuser(self, port: int, statement: str) -> str:
        command = f"runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -h {_FOLDER} -p {port} cpq -c {shlex.quote(statement)}"
        return self.host.run(f"cd / && {command}").stdout.strip()


@contextmanager
def standby_pair(host: ReleasedHost) -> Iterator[StandbyPair]:
    """Start both servers on a host, and leave nothing of them behind."""
    values = {
        "bin": _BIN, "folder": _FOLDER, "units": _UNITS, "address": host.address, "primary": _PRIMARY_PORT, "standby": _STANDBY_PORT,
    }  # fmt: skip
    clean_up = _CLEAN_UP.format(**values)
    script = (_RUN_SERVER + _SET_UP).format(**values, clean_up=clean_up)
    try:
        host.run(f"sh -c {shlex.quote(script)}")
        yield StandbyPair(host)
    finally:
        host.run(clean_up)
