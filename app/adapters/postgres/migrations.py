"""Applies expand and contract migrations, each exactly once and never half, and enters backfills that are done.

yoyo parses the files and orders them; what it leaves open is closed here: a migration, its verify script, its mark and
its content hash commit in one transaction, and of a file that no transaction can hold all but the file; an edited
applied file is refused; a lock row left by a killed run is removed, because every run first takes a session lock that
dies with its process. Each phase is an act of its own: expand migrations are part of a release, the others come after it.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlunsplit

import psycopg
import yoyo
from psycopg.conninfo import conninfo_to_dict
from yoyo.backends import DatabaseBackend
from yoyo.migrations import Migration, MigrationList

from app.adapters.postgres.operator_session import DatabaseUnreachableError
from app.adapters.postgres.pool import first_line
from app.application.migration_header import header_problems, phase_of, read_header
from app.application.operations import OperationError

_ATTEMPTS = 5
_PAUSE_SECONDS = 2.0

# Session locks of the platform are numbered here: 20261 is migrations, 1 is who changes the schema, 2 is who runs backfills.
_TAKE_LOCK = "SELECT pg_try_advisory_lock(20261, 1)"
_LOCK_HOLDER = """
    SELECT a.application_name, a.pid
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 20261 AND l.objid = 1
"""
_LEDGER = "SELECT migration, content_sha256 FROM cpq.migration_ledger"
_MARKED = "SELECT migration_id FROM cpq._yoyo_migration"
_COMPLETE = "UPDATE cpq.migration_backfill SET state = 'done', finished_at = now(), updated_at = now() WHERE migration = :migration"
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
        backfills: those of the bundle that are not done; never run by the expand job.
        contracts: contract migrations of the bundle that are not applied; never run by the expand job either.
        newer: applied migrations that this bundle does not have: the database is ahead of it.
    """

    pending: tuple[str, ...]
    applied: int
    backfills: tuple[str, ...]
    contracts: tuple[str, ...]
    newer: tuple[str, ...]


@dataclass(frozen=True)
class Applied:
    """What a run did."""

    migrations: tuple[str, ...]
    broke_stale_lock: bool


class Migrator:
    """One session of the schema owner.

    Args:
        url: postgresql://owner@host:port/database, without a password; several hosts and their parameters as libpq takes them.
        password: the owner's.
        directory: folder of NNNN_<phase>_<words>.sql files, with ledger.txt and verify/.
        application_name: names the session to whoever is refused because of it.
    """

    def __init__(self, url: str, password: str, directory: Path, application_name: str) -> None:
        self._directory = directory
        # The library takes an address of one host apart; several ones, and what goes with them, reach the driver as arguments.
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        owner, database = given.pop("user", ""), given.pop("dbname", "")
        query = urlencode({**given, "schema": "cpq", "application_name": application_name, "connect_timeout": "5"})
        netloc = f"{quote(owner)}:{quote(password, safe='')}@"
        self._yoyo_url = urlunsplit(("postgresql+psycopg", netloc, f"/{database}", query, ""))
        self._url, self._password, self._application_name = url, password, application_name

    def plan(self) -> MigrationPlan:
        """Compare files and database without changing either.

        Raises:
            MigrationRefusedError: an applied file was edited, files and ledger.txt differ, a file comes out of order.
            DatabaseUnreachableError: no connection.
        """
        with self._session() as connection:
            return self._plan_that_needs_nothing(connection)

    def contents(self) -> dict[str, str]:
        """The hash of each of the bundle's files, by the migration's name; asks no database."""
        return {path.stem: _sha256(path) for path in self._files()}

    def expand(self, release_id: str) -> Applied:
        """Apply every pending expand migration.

        Raises:
            MigrationRefusedError: as for `plan`; nothing was changed.
            MigrationBusyError: another run holds the lock; nothing was changed.
            MigrationFailedError: one was rolled back; those before it are applied.
            DatabaseUnreachableError: no connection.
        """
        with self._session() as connection:
            self._take_lock(connection)
            return self._apply_all(connection, self._plan_that_needs_nothing(connection).pending, release_id)

    def next(self) -> str | None:
        """Name the first migration of any phase that is not applied, in the order of the files; None where all are.

        Raises:
            MigrationRefusedError, DatabaseUnreachableError: as for `plan`, except for what a migration needs.
        """
        with self._session() as connection:
            plan = self._plan(connection)
            return min((*plan.pending, *plan.backfills, *plan.contracts), default=None)

    def apply(self, name: str, release_id: str) -> Applied:
        """Apply one expand or contract migration, on a clone where nobody asks for the others.

        Raises:
            MigrationRefusedError, MigrationBusyError, MigrationFailedError, DatabaseUnreachableError: as for `contract`.
        """
        with self._session() as connection:
            self._take_lock(connection)
            self._plan(connection)
            if problems := self._all_unmet(connection, [name]):
                raise MigrationRefusedError(*problems)
            return self._apply_all(connection, (name,), release_id)

    def contract(self, names: Sequence[str], release_id: str) -> Applied:
        """Apply contract migrations. Whether anybody still needs what they remove is the caller's to ask.

        Args:
            names: which; those of them that are applied already are passed over.
            release_id: who applies them, in the ledger.

        Raises:
            MigrationRefusedError: as for `plan`, or what one needs is not done; nothing was changed.
            MigrationBusyError, MigrationFailedError, DatabaseUnreachableError: as for `expand`.
        """
        with self._session() as connection:
            self._take_lock(connection)
            pending = [name for name in self._plan(connection).contracts if name in names]
            if problems := self._all_unmet(connection, pending):
                raise MigrationRefusedError(*problems)
            return self._apply_all(connection, tuple(pending), release_id)

    def complete_backfill(self, name: str, release_id: str) -> None:
        """Verify a backfill whose batches are all committed, and enter it into the ledger, in one transaction.

        Raises:
            MigrationFailedError: its verify script found something left.
        """
        with yoyo.get_backend(self._yoyo_url) as backend:
            migration = next(each for each in self._migrations() if each.id == name)
            try:
                with backend.transaction():
                    self._enter(backend, migration, release_id)
                    backend.execute(_COMPLETE, {"migration": name})
            except (psycopg.Error, OSError) as error:
                raise MigrationFailedError(f"{name}.sql is not done: {first_line(error)}") from error

    def unmet(self, names: Sequence[str]) -> list[str]:
        """Say what migrations need that is not done, a line each.

        Raises:
            DatabaseUnreachableError: no connection.
        """
        with self._session() as connection:
            return self._all_unmet(connection, names)

    def files(self) -> dict[str, Path]:
        """The bundle's files by the migration's name; asks no database."""
        return {path.stem: path for path in self._files()}

    def _take_lock(self, connection: psycopg.Connection[Any]) -> None:
        if not _scalar(connection, _TAKE_LOCK):
            holder = connection.execute(_LOCK_HOLDER).fetchone()
            name = f"{holder[0]} (backend {holder[1]})" if holder else "a session that has just ended"
            raise MigrationBusyError(f"another migration run is under way: {name}")

    def _apply_all(self, connection: psycopg.Connection[Any], names: tuple[str, ...], release_id: str) -> Applied:
        if not names:
            return Applied((), broke_stale_lock=False)
        if not _scalar(connection, "SELECT to_regnamespace('cpq') IS NOT NULL"):
            connection.execute("CREATE SCHEMA cpq")
        with yoyo.get_backend(self._yoyo_url) as backend:
            # Nobody else is migrating (we hold the session lock), so a lock row is a killed run's.
            stale = bool(backend.execute("SELECT count(*) FROM yoyo_lock").fetchone()[0])
            backend.break_lock()
            backend.ensure_internal_schema_updated()
            for migration in self._migrations():
                if migration.id in names:
                    self._apply(backend, migration, release_id)
        return Applied(names, broke_stale_lock=stale)

    def _ledger(self, connection: psycopg.Connection[Any]) -> dict[str, str]:
        if not _scalar(connection, "SELECT to_regclass('cpq.migration_ledger') IS NOT NULL"):
            return {}
        return {str(row[0]): str(row[1]) for row in connection.execute(_LEDGER).fetchall()}

    def _plan_that_needs_nothing(self, connection: psycopg.Connection[Any]) -> MigrationPlan:
        plan = self._plan(connection)
        if problems := self._all_unmet(connection, plan.pending):
            raise MigrationRefusedError(*problems)
        return plan

    def _plan(self, connection: psycopg.Connection[Any]) -> MigrationPlan:
        hashes = self.contents()
        problems = self._file_problems(hashes)
        ledger = self._ledger(connection)
        problems += [
            f"{name}.sql was edited after it was applied: restore its content and write a new migration instead"
            for name, sha in sorted(ledger.items())
            if name in hashes and hashes[name] != sha
        ]
        expand = [name for name in sorted(hashes) if phase_of(name) == "expand"]
        pending = tuple(name for name in expand if name not in ledger)
        newest = max((name for name in expand if name in ledger), default="")
        missing = [name for name in pending if name < newest]
        problems += [
            f"{name}.sql is missing from the database, and comes before {newest}, which is applied: a new file gets a higher "
            "number; a database that had it before is restored (docs/backup.md)"
            for name in missing
        ]
        problems += self._entered_by_hand(connection, ledger, missing)
        if problems:
            raise MigrationRefusedError(*problems)
        return MigrationPlan(
            pending=pending,
            applied=len(expand) - len(pending),
            backfills=tuple(name for name in sorted(hashes) if phase_of(name) == "backfill" and name not in ledger),
            contracts=tuple(name for name in sorted(hashes) if phase_of(name) == "contract" and name not in ledger),
            newer=tuple(sorted(set(ledger) - set(hashes))),
        )

    def _file_problems(self, hashes: dict[str, str]) -> list[str]:
        problems = header_problems({path.stem: path.read_text(encoding="utf-8") for path in self._files()})
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

    def _all_unmet(self, connection: psycopg.Connection[Any], names: Sequence[str]) -> list[str]:
        ledger = self._ledger(connection)
        return [problem for name in names for problem in self._unmet(name, ledger, names)]

    def _unmet(self, name: str, ledger: dict[str, str], with_it: Sequence[str]) -> list[str]:
        """Say what has to be done before a migration and is not, neither now nor by the run that applies it."""
        needed = read_header(name, (self._directory / f"{name}.sql").read_text(encoding="utf-8")).needs
        return [
            f"{name}.sql needs {each}, which is not done: cpq-oms-admin migrate {phase_of(each)}"
            for each in needed
            if each not in ledger and each not in with_it
        ]

    @staticmethod
    def _entered_by_hand(
        connection: psycopg.Connection[Any], ledger: dict[str, str], missing: Sequence[str]
    ) -> list[str]:
        """Name what stands in one of the two lists of applied migrations alone, and is not missing: a run writes both or none."""
        if not _scalar(connection, "SELECT to_regclass('cpq._yoyo_migration') IS NOT NULL"):
            return []
        marked = {str(row[0]) for row in connection.execute(_MARKED).fetchall()}
        return [
            f"{name} was entered by hand: it is in {there} and not in {missing}; what was done by hand is done again by a migration"
            for names, there, missing in (
                (ledger.keys() - marked, "cpq.migration_ledger", "cpq._yoyo_migration"),
                (marked - ledger.keys() - set(missing), "cpq._yoyo_migration", "cpq.migration_ledger"),
            )
            for name in sorted(names)
        ]

    def _files(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.sql") if not path.name.endswith(".rollback.sql"))

    def _migrations(self) -> MigrationList:
        return yoyo.read_migrations(str(self._directory))

    def _apply(self, backend: DatabaseBackend, migration: Migration, release_id: str) -> None:
        """Apply one file; traffic may hold its locks for a while, so a lock timeout is tried again, a bounded number of times."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                migration.load()
                if not migration.use_transactions:
                    self._run(backend, migration)
                with backend.transaction():
                    if migration.use_transactions:
                        self._run(backend, migration)
                    self._enter(backend, migration, release_id)
            except psycopg.errors.LockNotAvailable as error:
                if attempt == _ATTEMPTS:
                    raise MigrationFailedError(
                        f"{migration.id}.sql was rolled back {_ATTEMPTS} times: it waited too long for a lock"
                    ) from error
                time.sleep(_PAUSE_SECONDS)
            except (psycopg.Error, OSError) as error:
                raise MigrationFailedError(f"{migration.id}.sql was rolled back: {first_line(error)}") from error
            else:
                return

    @staticmethod
    def _run(backend: DatabaseBackend, migration: Migration) -> None:
        # The library prints what a statement answers; a command's answer is its own.
        with redirect_stdout(io.StringIO()):
            for step in migration.steps:
                step.apply(backend)

    def _enter(self, backend: DatabaseBackend, migration: Migration, release_id: str) -> None:
        verify = self._directory / "verify" / f"{migration.id}.sql"
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


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _scalar(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
