"""What the programs around backups share: their settings, questions to a local server, and what rows are held to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/cpq-oms/recovery.json")
# A row's text depends on them.
TEXT = "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex -c jit=off"
# The database of what this module keeps for itself: no migration of the platform's and no release touches it.
OWN_DATABASE = "postgres"

Digest = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Settings:
    """What the role says; see its defaults."""

    stanza: str
    version: str
    port: int
    database: str
    tables: tuple[str, ...]
    recovery_point_seconds: int
    recovery_time_seconds: int

    @classmethod
    def read(cls, path: Path = SETTINGS) -> Settings:
        """Read the file that the role wrote."""
        found = json.loads(path.read_text())
        return cls(**{**found, "tables": tuple(found["tables"])})


@dataclass(frozen=True)
class Server:
    """A server of this host, asked by its superuser through its socket."""

    socket: str
    port: int

    def ask(self, statements: str, database: str = OWN_DATABASE, **values: str) -> list[str]:
        """Return the lines of the answer; a value takes the place of :'its_name'.

        Raises:
            subprocess.CalledProcessError: a statement failed; `stderr` says which and why.
        """
        command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", f"--host={self.socket}", f"--port={self.port}"]
        given = [f"--set={name}={value}" for name, value in values.items()]
        done = subprocess.run(
            [*command, *given, "--username=postgres", f"--dbname={database}", "--file=-"],
            input=f"SET client_min_messages = warning;\n{statements}",
            env={**os.environ, "PGOPTIONS": TEXT, "PGCONNECT_TIMEOUT": "10"},
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()


def digest_query(tables: Sequence[str]) -> str:
    """Return a query for the number of rows of each table and a hash of all of them, in whatever order they lie."""
    parts = [
        f"'{table}', (SELECT json_build_object('rows', count(*), 'hash', coalesce(bit_xor(hashtextextended(r::text, 0)), 0)::text) FROM {table} r)"  # noqa: S608 - the role has checked the names
        for table in tables
    ]
    return f"SELECT json_build_object({', '.join(parts)})"


def differences(expected: Digest, found: Digest) -> list[str]:
    """Name each table whose rows are not the expected ones."""
    problems = []
    for table in sorted({*expected, *found}):
        one, other = expected.get(table), found.get(table)
        if one is None or other is None:
            problems.append(f"{table}: is {'not expected' if one is None else 'missing'}")
        elif one["rows"] != other["rows"]:
            problems.append(f"{table}: expected {one['rows']} rows, found {other['rows']}")
        elif one["hash"] != other["hash"]:
            problems.append(f"{table}: has {other['rows']} rows, of which some are not the expected ones")
    return problems
