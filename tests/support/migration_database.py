"""A database of the tests' own on a cluster of their own, and a copy of the bundle's migrations, to be added to and spoilt."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.adapters.postgres.migrations import Migrator
from app.contracts.loader import load_database_grants
from tests.support.released_host import ReleasedHost, find_host

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
DATABASE = "cpq_test_migrations"
PORT = 5499
CLUSTER = "/var/lib/postgresql/cpq-test-migrations"
BIN = "/usr/lib/postgresql/17/bin"
AS_POSTGRES = "runuser -u postgres --"
PSQL = f"{AS_POSTGRES} psql -h /tmp -p {PORT} -qX -v ON_ERROR_STOP=1 postgres"


@pytest.fixture(scope="module")
def host() -> Iterator[ReleasedHost]:
    """The host with a database cluster of the tests' own, so that nothing here meets the platform's data."""
    found = find_host()
    roles = " ".join(f'-c "CREATE ROLE {role} LOGIN"' for role in ("cpq_owner", *load_database_grants()))
    options = f"-p {PORT} -k /tmp -c listen_addresses={found.address} -c fsync=off -c shared_buffers=32MB"
    try:
        found.run(f"{AS_POSTGRES} {BIN}/initdb -D {CLUSTER} --auth=trust --encoding=UTF8 --locale=C.UTF-8")
        found.run(f"echo 'host all all {found.address}/24 trust' >> {CLUSTER}/pg_hba.conf")
        found.run(f"{AS_POSTGRES} {BIN}/pg_ctl -D {CLUSTER} -o '{options}' -l {CLUSTER}/log -w start")
        found.run(f"{PSQL} {roles}")
        yield found
    finally:
        found.run(f"{AS_POSTGRES} {BIN}/pg_ctl -D {CLUSTER} -m immediate -w stop; rm -rf {CLUSTER}", check=False)


@pytest.fixture
def url(host: ReleasedHost) -> str:
    """An empty database of the owner's."""
    drop = f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"
    host.run(f"{PSQL} -c '{drop}' -c 'CREATE DATABASE {DATABASE} OWNER cpq_owner'")
    return f"postgresql://cpq_owner@{host.address}:{PORT}/{DATABASE}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundle's migrations, to be added to and spoilt."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


@pytest.fixture
def password() -> str:
    """The cluster trusts its own network."""
    return "none"


@pytest.fixture
def migrator(url: str, folder: Path, password: str) -> Migrator:
    return Migrator(url, password, folder, "tests/migrations")


BUDGET = "-- budget: lock 500ms, duration 5s"
BACKFILL_OF_NOTHING = f"{BUDGET}\nSELECT 0 AS changed, NULL::text AS last WHERE $1::text IS NULL AND $2::integer > 0;"
CONTRACT_OF_FLAGS = f"""{BUDGET}
-- replaced-by: 0014_expand_configuration
-- needs: 0900_backfill_nothing
-- removes: table cpq.feature_flag
-- last-needed-by: generation 1
SET lock_timeout = '1s';
DROP TABLE cpq.feature_flag;
"""


def add(folder: Path, name: str, statement: str, verify: str = "SELECT 1;") -> None:
    """Add a file with its verify script and its line in the ledger, and with a budget where it says none."""
    path = folder / f"{name}.sql"
    path.write_text(statement if "-- budget:" in statement else f"{BUDGET}\n{statement}")
    (folder / "verify" / f"{name}.sql").write_text(verify)
    ledger = folder / "ledger.txt"
    ledger.write_text(f"{ledger.read_text()}{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n")


def tables(url: str, password: str) -> set[str]:
    with psycopg.connect(url, password=password) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'cpq'::regnamespace AND relkind = 'r'"
        )
        return {str(row[0]) for row in rows}


@pytest.fixture
def standby(host: ReleasedHost, url: str) -> Iterator[str]:
    """A standby of the cluster; the URL of the database that names both servers."""
    other = f"{CLUSTER}-standby"
    options = f"-p {PORT + 1} -k /tmp -c listen_addresses={host.address} -c shared_buffers=32MB"
    try:
        host.run(f"{AS_POSTGRES} {BIN}/pg_basebackup -h /tmp -p {PORT} -c fast -R -D {other}")
        host.run(f"{AS_POSTGRES} {BIN}/pg_ctl -D {other} -o '{options}' -l {other}/log -w start")
        address = f"{host.address}:{PORT}"
        yield url.replace(address, f"{address},{host.address}:{PORT + 1}")
    finally:
        host.run(f"{AS_POSTGRES} {BIN}/pg_ctl -D {other} -m immediate -w stop; rm -rf {other}", check=False)


def on_standby(host: ReleasedHost, statement: str) -> None:
    """Run a statement as the superuser of the standby."""
    host.run(f'{AS_POSTGRES} psql -h /tmp -p {PORT + 1} -qX -v ON_ERROR_STOP=1 postgres -c "{statement}"')
