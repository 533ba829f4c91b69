"""Applies expand migrations, each exactly once and never half.

yoyo parses the files and orders them; what it leaves open is closed here: a migration, its verify script, its mark and
its content hash commit in one transaction; an edited applied file is refused; a lock row left by a killed run is
removed, because every run first takes a session lock that dies with its process. Backfill and contract files are
never run from here: they are acts of their own.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import yoyo
from yoyo.backends import DatabaseBackend
from yoyo.migrations import Migration, MigrationList

from app.adapters.postgres.operator_session import DatabaseUnreachableError
from app.application.operations import OperationError

_FILE_NAME = re.compile(r"(?P<number>[0-9]{4})_(?P<phase>expand|backfill|contract)_[a-z0-9_]+")
_ATTEMPTS = 5
_PAUSE_SECONDS = 2.0

# Session locks of the platform are numbered here: 20261 is migrations, 1 is the expand job.
_TAKE_LOCK = "SELECT pg_try_advisory_lock(20261, 1)"
_LOCK_HOLDER = """
    SELECT a.application_name, a.pid
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 20261 AND l.objid = 1
"""
_LEDGER = "SELECT migration, content_sha256 FROM cpq.migration_ledger"
_ENTER = "INSERT INTO cpq.migration_ledger (migration, content_sha256, release_id) VALUES (:migration, :sha, :release)"


class MigrationRefusedError(OperationError):
    """The files or the database are not in a state to migrate; `problems` names each file and what is wrong."""


class MigrationBusyError(OperationError):
    """Another migration run is under way; the message names its session."""


class MigrationFailedError(OperationError):
    """A migration was rolled back; the message names it, its database error or what its verify script missed."""


@dataclass(frozen=True)
class MigrationPlan:
    """What would run now, and what is left for other acts.

    Attributes:
        pending: expand migrations to apply, in order.
        applied: how many of the bundle's expand migrations are applied.
        later: backfill and contract files of the bundle that are not applied; never run by the expand job.
        newer: applied migrations that this bundle does not have: the database is ahead of it.
    """

    pending: tuple[str, ...]
    applied: int
    later: tuple[str, ...]
    newer: tuple[str, ...]


@dataclass(frozen=True)
class Applied:
    """What an expand run did."""

    migrations: tuple[str, ...]
    broke_stale_lock: bool


class Migrator:
    """One session of the schema owner.

    Args:
        url: postgresql://owner@host:port/database, without a password.
        password: the owner's.
        directory: folder of NNNN_<phase>_<words>.sql files, with ledger.txt and verify/.
        application_name: names the session to whoever is refused because of it.
    """

    def __init__(self, url: str, password: str, directory: Path, application_name: str) -> None:
        self._directory = directory
        parts = urlsplit(url)
        netloc = f"{quote(parts.username or '')}:{quote(password, safe='')}@{parts.hostname}:{parts.port or 5432}"
        query = f"schema=cpq&application_name={quote(application_name, safe='')}&connect_timeout=5"
        self._yoyo_url = urlunsplit(("postgresql+psycopg", netloc, parts.path, query, ""))
        self._url, self._password, self._application_name = url, password, application_name

    def plan(self) -> MigrationPlan:
        """Compare files and database without changing either.

        Raises:
            MigrationRefusedError: an applied file was edited, files and ledger.txt differ, a file comes out of order.
            DatabaseUnreachableError: no connection.
        """
        with self._session() as connection:
            return self._plan(connection)

    def expand(self, release_id: str) -> Applied:
        """Apply every pending expand migration.

        Raises:
            MigrationRefusedError: as for `plan`; nothing was changed.
            MigrationBusyError: another run holds the lock; nothing was changed.
            MigrationFailedError: one was rolled back; those before it are applied.
            DatabaseUnreachableError: no connection.
        """
        with self._session() as connection:
            if not _scalar(connection, _TAKE_LOCK):
                holder = connection.execute(_LOCK_HOLDER).fetchone()
                name = f"{holder[0]} (backend {holder[1]})" if holder else "a session that has just ended"
                raise MigrationBusyError(f"another migration run is under way: {name}")
            plan = self._plan(connection)
            if not plan.pending:
                return Applied((), broke_stale_lock=False)
            if not _scalar(connection, "SELECT to_regnamespace('cpq') IS NOT NULL"):
                connection.execute("CREATE SCHEMA cpq")
            with yoyo.get_backend(self._yoyo_url) as backend:
                # Nobody else is migrating (we hold the session lock), so a lock row is a killed run's.
                stale = bool(backend.execute("SELECT count(*) FROM yoyo_lock").fetchone()[0])
                backend.break_lock()
                backend.ensure_internal_schema_updated()
                for migration in self._migrations():
                    if migration.id in plan.pending:
                        self._apply(backend, migration, release_id)
            return Applied(plan.pending, broke_stale_lock=stale)

    def _plan(self, connection: psycopg.Connection[Any]) -> MigrationPlan:
        hashes = {path.stem: _sha256(path) for path in self._files()}
        problems = self._file_problems(hashes)
        ledger: dict[str, str] = {}
        if _scalar(connection, "SELECT to_regclass('cpq.migration_ledger') IS NOT NULL"):
            ledger = {str(row[0]): str(row[1]) for row in connection.execute(_LEDGER).fetchall()}
        problems += [
            f"{name}.sql was edited after it was applied: restore its content and write a new migration instead"
            for name, sha in sorted(ledger.items())
            if name in hashes and hashes[name] != sha
        ]
        expand = [name for name in sorted(hashes) if _phase(name) == "expand"]
        pending = tuple(name for name in expand if name not in ledger)
        newest = max((name for name in expand if name in ledger), default="")
        problems += [
            f"{name}.sql comes before {newest}, which is applied: give it a higher number"
            for name in pending
            if name < newest
        ]
        if problems:
            raise MigrationRefusedError(*problems)
        return MigrationPlan(
            pending=pending,
            applied=len(expand) - len(pending),
            later=tuple(name for name in sorted(hashes) if _phase(name) != "expand" and name not in ledger),
            newer=tuple(sorted(set(ledger) - set(hashes))),
        )

    def _file_problems(self, hashes: dict[str, str]) -> list[str]:
        problems = [
            f"{name}.sql: the name must be NNNN_<expand|backfill|contract>_<words>"
            for name in sorted(hashes)
            if not _FILE_NAME.fullmatch(name)
        ]
        declared = dict(
            line.split()[:2] for line in (self._directory / "ledger.txt").read_text().splitlines() if line.strip()
        )
        for name in sorted(declared.keys() | hashes.keys()):
            if name not in declared:
                problems.append(f"{name}.sql is not in ledger.txt")
            elif name not in hashes:
                problems.append(f"{name}.sql is in ledger.txt and missing from the bundle")
            elif declared[name] != hashes[name]:
                problems.append(f"{name}.sql differs from its hash in ledger.txt")
        return problems

    def _files(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.sql") if not path.name.endswith(".rollback.sql"))

    def _migrations(self) -> MigrationList:
        return yoyo.read_migrations(str(self._directory))

    def _apply(self, backend: DatabaseBackend, migration: Migration, release_id: str) -> None:
        """Apply one file; traffic may hold its locks for a while, so a lock timeout is tried again, a bounded number of times."""
        verify = self._directory / "verify" / f"{migration.id}.sql"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                migration.load()
                if migration.use_transactions:
                    with backend.transaction():
                        self._run(backend, migration, verify, release_id)
                else:
                    self._run(backend, migration, verify, release_id)
            except psycopg.errors.LockNotAvailable as error:
                if attempt == _ATTEMPTS:
                    raise MigrationFailedError(
                        f"{migration.id}.sql was rolled back {_ATTEMPTS} times: it waited too long for a lock"
                    ) from error
                time.sleep(_PAUSE_SECONDS)
            except (psycopg.Error, OSError) as error:
                message = str(error).strip().splitlines()[0]
                raise MigrationFailedError(f"{migration.id}.sql was rolled back: {message}") from error
            else:
                return

    def _run(self, backend: DatabaseBackend, migration: Migration, verify: Path, release_id: str) -> None:
        for step in migration.steps:
            step.apply(backend)
        cursor = backend.cursor()
        # Files set tight timeouts for the session; the script that checks them must not inherit those.
        cursor.execute("RESET statement_timeout")
        cursor.execute(verify.read_text())
        backend.mark_one(migration, log=False)
        values = {"migration": migration.id, "sha": _sha256(Path(migration.path)), "release": release_id}
        backend.execute(_ENTER, values)

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            connection = psycopg.connect(
                self._url,
                password=self._password,
                application_name=self._application_name,
                autocommit=True,
                connect_timeout=5,
            )
        except psycopg.OperationalError as error:
            raise DatabaseUnreachableError(str(error).strip().splitlines()[0]) from error
        with connection:
            yield connection


def _phase(name: str) -> str:
    match = _FILE_NAME.fullmatch(name)
    return match["phase"] if match else ""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _scalar(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
