"""Leaves a sign of life in the database, and now and then a point whose rows are known; runs on each database host.

The sign of life is a row with the time. Archived log then never has nothing to say, so its age is what would be lost; and a
restored database tells how far it came.

A marker is a restore point together with number and hash of the rows of each table of the proof at that very point. Writers are
kept out for the moment in which the point is set and a snapshot taken, not while rows are counted: the lock goes with the savepoint,
the snapshot stays with the transaction. The marker's own row is written after its point, so a database restored to that point has
all the rows of the proof and not this one. The restore drill checks both.

Usage: recovery_marker.py [--now [NAME]]. On a standby it does nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from datetime import UTC, datetime

from recovery_proof import OWN_DATABASE, Server, Settings, digest_query

SOCKET = "/var/run/postgresql"
BETWEEN = "6 hours"
KEPT = "60 days"
LOCK_TIMEOUT = "500ms"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")

TABLES = """
CREATE SCHEMA IF NOT EXISTS recovery;
CREATE TABLE IF NOT EXISTS recovery.heartbeat (singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton), at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS recovery.marker (name text PRIMARY KEY, at timestamptz NOT NULL, lsn pg_lsn NOT NULL, digest json NOT NULL);
"""
BEAT = "INSERT INTO recovery.heartbeat (at) VALUES (now()) ON CONFLICT (singleton) DO UPDATE SET at = excluded.at;"
IS_DUE = "SELECT NOT EXISTS (SELECT FROM recovery.marker WHERE at > now() - :'hours'::interval);"
# It is archived now, not when its segment is full or old.
KEEP = """
INSERT INTO recovery.marker VALUES (:'name', now(), :'lsn', :'digest');
DELETE FROM recovery.marker WHERE at < now() - :'kept'::interval;
SELECT pg_switch_wal();
"""
NAMED = "SELECT name FROM recovery.marker WHERE name = :'name';"


class MarkerError(Exception):
    """There is no marker, and why."""


def point_statements(name: str, tables: tuple[str, ...]) -> str:
    """Return what sets the point and tells its place, then the digest of the rows at it."""
    return f"""
BEGIN ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT writers;
SET LOCAL lock_timeout = '{LOCK_TIMEOUT}';
LOCK TABLE {", ".join(tables)} IN SHARE MODE;
SELECT pg_create_restore_point('{name}');
ROLLBACK TO SAVEPOINT writers;
{digest_query(tables)};
COMMIT;
"""


def is_whole(server: Server, settings: Settings) -> bool:
    """Whether there is anything to prove: a release makes the tables."""
    found = server.ask("SELECT datname FROM pg_database WHERE datname = :'name';", name=settings.database)
    if not found or not settings.tables:
        return False
    names = ", ".join(f"to_regclass('{table}') IS NOT NULL" for table in settings.tables)
    return "f" not in server.ask(f"SELECT unnest(ARRAY[{names}]);", settings.database)


def mark(server: Server, settings: Settings, name: str) -> str:
    """Set the point and keep what its rows are; return the marker as JSON."""
    lsn, digest = server.ask(point_statements(name, settings.tables), settings.database)
    server.ask(KEEP, name=name, lsn=lsn, digest=digest, kept=KEPT)
    return json.dumps({"name": name, "lsn": lsn, "digest": json.loads(digest)})


def run(server: Server, settings: Settings, wanted: str | None) -> str:
    """Leave the sign of life, and a marker when one is wanted or due.

    Raises:
        MarkerError: one was wanted, and there is nothing to prove or it has a name that is in use.
    """
    if server.ask("SELECT pg_is_in_recovery();") == ["t"]:
        return ""
    server.ask(TABLES + BEAT)
    if wanted is None and server.ask(IS_DUE, hours=BETWEEN) == ["f"]:
        return ""
    if not is_whole(server, settings):
        if wanted is None:
            return ""
        raise MarkerError(
            f"database {settings.database} does not have all of {', '.join(settings.tables) or 'no tables'}"
        )
    name = wanted or f"marker-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if server.ask(NAMED, name=name):
        raise MarkerError(f"{name} is in use: a restore to it would stop at the former one")
    return mark(server, settings, name)


def main() -> int:
    """Do it, and say what was done or why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--now", nargs="?", const="", metavar="NAME", help="set a marker whether one is due or not")
    arguments = parser.parse_args()
    if arguments.now and not NAME.fullmatch(arguments.now):
        parser.error(f"--now: expected at most 60 letters, digits and ._-, found {arguments.now!r}")
    settings = Settings.read()
    try:
        print(run(Server(SOCKET, settings.port), settings, arguments.now), end="")  # noqa: T201 - it is the answer
    except MarkerError as problem:
        sys.stderr.write(f"no marker: {problem}\n")
        return 1
    except subprocess.CalledProcessError as problem:
        sys.stderr.write(f"no marker in {OWN_DATABASE} or {settings.database}: {problem.stderr.strip()}\n")
        # Writers were in the way of a point that was only due: the next minute is as good.
        return 0 if arguments.now is None and "lock timeout" in problem.stderr else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
