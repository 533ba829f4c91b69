"""Code and schema of two releases side by side: the former's code on this schema, and on the former's schema what of this release runs there."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.adapters.postgres.grants import apply_grants
from app.adapters.postgres.migrations import Migrator
from app.adapters.postgres.operator_session import open_session
from app.adapters.postgres.pool import connection_parameters
from app.adapters.postgres.schema import REQUIRED_MIGRATION, SchemaTooOldError, ensure_reachable
from app.contracts.loader import load_database_grants
from tests.integration.conftest import ROOT, STATEMENT_TIMEOUT
from tests.support.migration_database import MIGRATIONS, folder, host, migrator, password, url
from tests.support.operator import Operator
from tests.support.services import Services

__all__ = ["folder", "host", "migrator", "password", "url"]

EXPANDS = sorted(path.stem for path in MIGRATIONS.glob("*_expand_*.sql") if ".rollback" not in path.name)
# What a release asks before it migrates, with the new commands: docs/release.md.
ASKED_BEFORE = (
    ("release", "live"),
    ("release", "status"),
    ("release", "list"),
    ("bpmn", "served"),
    ("migrate", "plan"),
    ("migrate", "backfill", "--plan"),
    ("migrate", "contract", "--plan"),
    ("db", "grants", "plan"),
)
# A quote becomes an order, is started, published and shown: by the former's own tests and code.
FORMER_SUITE = (
    "tests/integration/api/test_unit_of_work.py",
    "tests/integration/api/test_process.py",
    "tests/integration/relay/test_outbox_store.py",
    "tests/integration/worker/test_workflow_start.py",
    "tests/integration/consumer/test_order_projection.py",
)
# How a unit of it starts, ends and lives without a service is no matter of the schema; nor is which of two indexes answers.
LEFT_OUT = "watchdog or kills or without or down or diagnostics or sigterm or settings or config or start_up or loaded or index"
SUITE_TIMEOUT_SECONDS = 900


@pytest.mark.parametrize("lacking", [1, 2, 3])
async def test_commands_of_this_release_say_what_a_release_asks_on_a_schema_that_lacks_its_newest_migrations(
    services: Services, migrator: Migrator, folder: Path, url: str, lacking: int
) -> None:
    older(folder, migrator, lacking)
    credentials = folder.parent / "credentials"
    credentials.mkdir()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT USAGE ON SCHEMA cpq TO cpq_admin")
        connection.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA cpq TO cpq_admin")
    there = {"DB_OWNER_URL": url, "DB_URL": url.replace("cpq_owner", "cpq_admin")}
    operator = Operator(services, credentials, changes=there)

    for words in ASKED_BEFORE:
        outcome = await operator.run(*words)

        assert (outcome.problems, outcome.exit_code in {0, 3}) == ((), True), (words, outcome.problems)


async def test_a_unit_of_this_release_refuses_an_older_schema_by_the_name_of_what_it_lacks(
    migrator: Migrator, folder: Path, url: str
) -> None:
    """So the only new code that meets the old schema is the operators'."""
    older(folder, migrator, 1)
    parameters = connection_parameters(url, "none", application_name="tests", statement_timeout=STATEMENT_TIMEOUT)

    with pytest.raises(SchemaTooOldError, match=f"migration {REQUIRED_MIGRATION} is not applied"):
        await ensure_reachable(parameters)


def older(folder: Path, migrator: Migrator, lacking: int) -> None:
    """Bring the database to where a release was that has not the newest expand migrations."""
    lines = (folder / "ledger.txt").read_text().splitlines()
    gone = EXPANDS[-lacking:]
    for name in gone:
        (folder / f"{name}.sql").unlink()
    later = [line for line in lines if line.split()[0] not in gone]
    (folder / "ledger.txt").write_text("".join(f"{line}\n" for line in later))
    migrator.expand("the-former")


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """The checkout from before the newest expand migration was added."""
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", f"migrations/{REQUIRED_MIGRATION}.sql").decode()
    assert added.strip(), f"{REQUIRED_MIGRATION} is not committed yet"
    checkout = tmp_path / "former"
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{added.strip()}^"))) as archive:
        # Of this repository, which has links to where a machine keeps its vaults.
        archive.extractall(checkout, filter="tar")
    assert not (checkout / "migrations" / f"{REQUIRED_MIGRATION}.sql").exists()
    shutil.copy(ROOT / "tests/support/units_left_alone.py", checkout)
    return checkout


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.fixture
def as_before(services: Services) -> Iterator[None]:
    """Undo what the former's tests leave: its grants."""
    yield

    async def give() -> None:
        owner, secret = services.database_url("owner"), services.secret("db_owner_password")
        async with open_session(owner, [secret], "tests/grants", STATEMENT_TIMEOUT) as connection:
            await apply_grants(connection, load_database_grants())

    asyncio.run(give())


@pytest.mark.timeout(SUITE_TIMEOUT_SECONDS + 60)
@pytest.mark.usefixtures("schema", "as_before")
def test_the_code_of_the_former_release_runs_on_the_schema_of_this_one(former: Path) -> None:
    suite = [path for path in FORMER_SUITE if (former / path).exists()]
    assert len(suite) >= 3, "the tests of the former release have other names: say them in FORMER_SUITE"

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "units_left_alone",
            "-k",
            f"not ({LEFT_OUT})",
            *suite,
        ],
        cwd=former,
        capture_output=True,
        text=True,
        check=False,
        timeout=SUITE_TIMEOUT_SECONDS,
    )

    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout
