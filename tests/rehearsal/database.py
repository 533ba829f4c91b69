"""The database of a rehearsal as its clients and its superuser see it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from itertools import pairwise

from tests.support.rehearsal import Rehearsal

MEMBERS = "patronictl -c /etc/patroni/config.yml list -f json"
# One connection for each row, as a client that lost its own makes it. A row is told of only when psql has said that it is committed.
WRITE = r"""
umask 077; read -r password; PGPASSFILE=$(mktemp); export PGPASSFILE
printf '*:*:*:cpq_owner:%s\n' "$password" > "$PGPASSFILE"
until=$(( $(date +%s) + SECONDS_TO_WRITE )); row=0
while [ "$(date +%s)" -lt "$until" ]; do
  row=$((row + 1))
  timeout 40 psql -XqAt -v ON_ERROR_STOP=1 "$URL" -c "INSERT INTO probe.written VALUES ($row)" 2>/dev/null && echo "$row $(date +%s.%N)"
done
rm "$PGPASSFILE"
"""
SETTLE_SECONDS = 120


class Database:
    """The database as its clients and its superuser see it."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self.hosts = rehearsal.groups["db"]
        self._client = rehearsal.groups["admin"][0]
        places = ",".join(f"{rehearsal.hosts[host]}:5432" for host in self.hosts)
        self._url = (
            f"postgresql://cpq_owner@{places}/cpq?target_session_attrs=primary&connect_timeout=3"
            "&sslmode=verify-full&sslrootcert=/etc/cpq-oms/tls/ca.pem"
        )

    def members(self) -> dict[str, str]:
        """Return the role of each member that serves, as any host that is up knows it."""
        for host in self.hosts:
            done = self._rehearsal.run(host, MEMBERS, check=False, seconds=30)
            if done.returncode == 0:
                rows = json.loads(done.stdout)
                return {row["Member"]: row["Role"] for row in rows if row["State"] in {"running", "streaming"}}
        return {}

    def primary(self) -> str:
        """Return the primary's name."""
        return next(name for name, role in self.members().items() if role == "Leader")

    def standby(self) -> str:
        """Return the name of the standby without which no commit counts."""
        return next(name for name, role in self.members().items() if role == "Sync Standby")

    def cut_off(self, host: str, seconds: int) -> None:
        """Take a host off the network for so many seconds: it lives on, and nobody is told that it is gone."""
        cut = f"ip link set host0 down; sleep {seconds}; ip link set host0 up; networkctl reconfigure host0"
        self._rehearsal.run(host, f"systemd-run --no-block --collect sh -c {json.dumps('sleep 1; ' + cut)}")

    def settle(self) -> None:
        """Wait until every commit has a second copy."""
        expected = ["Leader", "Sync Standby"]
        self._rehearsal.until(
            lambda: sorted(self.members().values()) == expected, "a standby is synchronous", SETTLE_SECONDS
        )

    def superuser(self, statement: str) -> str:
        """Run a statement on the primary."""
        command = f"cd / && runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -d cpq -c {json.dumps(statement)}"
        return self._rehearsal.run(self.primary(), command).stdout

    def write(self, seconds: int) -> dict[int, float]:
        """Write rows for so many seconds and return those that were acknowledged, with the time of that."""
        script = f"export URL={json.dumps(self._url)}; {WRITE.replace('SECONDS_TO_WRITE', str(seconds))}"
        password = self._rehearsal.secret("db_owner_password") + "\n"
        done = self._rehearsal.run(self._client, script, check=False, standard_input=password, seconds=seconds + 120)
        return {int(row): float(at) for row, at in (line.split() for line in done.stdout.splitlines())}

    def write_while(self, seconds: int, happens: Callable[[], object]) -> tuple[dict[int, float], float]:
        """Write, let something happen after five seconds, and return what was acknowledged and the longest silence."""
        acknowledged: dict[int, float] = {}
        writer = threading.Thread(target=lambda: acknowledged.update(self.write(seconds)))
        writer.start()
        time.sleep(5)
        happens()
        writer.join()
        times = sorted(acknowledged.values())
        assert times, "nothing was written at all"
        return acknowledged, max((later - earlier for earlier, later in pairwise(times)), default=float("inf"))

    def kept(self) -> set[int]:
        """Return the rows that are there."""
        return {int(row) for row in self.superuser("SELECT n FROM probe.written").split()}
