"""A database is restored as far as a named point and no further, and not at all while it runs or for another environment's name."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.rehearsal.database import Database
from tests.support.rehearsal import Rehearsal

POINT = "before-the-mistake"


@pytest.fixture
def database(rehearsal: Rehearsal) -> Iterator[Database]:
    """Give a database with a table that nobody else writes, and leave it whole."""
    found = Database(rehearsal)
    found.settle()
    found.superuser(
        "DROP SCHEMA IF EXISTS probe CASCADE; CREATE SCHEMA probe; CREATE TABLE probe.written (n int PRIMARY KEY)"
    )
    yield found
    for host in found.hosts:
        rehearsal.run(host, "systemctl start patroni")
    found.settle()
    found.superuser("DROP SCHEMA probe CASCADE")


def restore(rehearsal: Rehearsal, **said: str) -> tuple[int, str]:
    """Run the playbook with what was said."""
    options = [part for name, value in said.items() for part in ("-e", f"{name}={value}")]
    done = rehearsal.play("restore", *options, check=False)
    return done.returncode, done.stdout


def started(rehearsal: Rehearsal, host: str) -> str:
    """Return since when the server's data directory is what it is."""
    return rehearsal.run(host, "stat -c %Y.%i /var/lib/postgresql/17/cpq/PG_VERSION").stdout


def test_a_running_database_is_not_restored(rehearsal: Rehearsal, database: Database) -> None:
    before = [started(rehearsal, host) for host in database.hosts]

    code, said = restore(rehearsal, restore_environment=rehearsal.environment, restore_type="latest")

    assert code != 0
    assert "a server runs here" in said
    assert [started(rehearsal, host) for host in database.hosts] == before


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"restore_environment": "another", "restore_type": "latest"}, "restore_environment: expected"),
        ({"restore_type": "latest"}, "restore_environment: expected"),
    ],
)
def test_the_environment_must_be_named(rehearsal: Rehearsal, said: dict[str, str], reason: str) -> None:
    code, shown = restore(rehearsal, **said)

    assert code != 0
    assert reason in shown


def test_rows_come_back_as_far_as_the_point_and_none_after_it(rehearsal: Rehearsal, database: Database) -> None:
    database.superuser("INSERT INTO probe.written VALUES (1), (2)")
    database.superuser(f"SELECT pg_create_restore_point('{POINT}')")
    database.superuser("INSERT INTO probe.written VALUES (3); DELETE FROM probe.written WHERE n = 1")
    # The standby first: the primary then ends last and hands over all of its log.
    for host in sorted(database.hosts, key=lambda host: host == database.primary()):
        rehearsal.run(host, "systemctl stop patroni")

    code, said = restore(
        rehearsal, restore_environment=rehearsal.environment, restore_type="name", restore_target=POINT
    )

    assert code == 0, said[-6000:]
    database.settle()
    assert database.kept() == {1, 2}
    on_standby = 'psql -XqAt -d cpq -c "SELECT count(*), pg_is_in_recovery() FROM probe.written"'
    assert rehearsal.run(database.standby(), f"cd / && runuser -u postgres -- {on_standby}").stdout.strip() == "2|t"
    # A restore's own settings would stop the next standby that is copied.
    left = database.superuser("SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'")
    assert left.strip() == "0"
    told = json.loads(
        rehearsal.run(
            rehearsal.groups["backup"][0], "runuser -u pgbackrest -- pgbackrest --stanza=cpq --output=json info"
        ).stdout
    )
    assert told[0]["backup"][-1]["type"] == "full"


def test_a_backup_host_that_is_away_holds_no_commit_up_and_gets_the_log_afterwards(
    rehearsal: Rehearsal, database: Database
) -> None:
    keeper = rehearsal.groups["backup"][0]
    rehearsal.run(keeper, "systemctl stop pgbackrest")
    try:
        failed = int(database.superuser("SELECT failed_count FROM pg_stat_archiver"))
        segment = database.superuser("INSERT INTO probe.written VALUES (7); SELECT pg_walfile_name(pg_switch_wal())")
        rehearsal.until(
            lambda: int(database.superuser("SELECT failed_count FROM pg_stat_archiver")) > failed,
            "that log cannot be archived is told",
        )
        assert database.kept() == {7}
    finally:
        rehearsal.run(keeper, "systemctl start pgbackrest")
    # Between its attempts the server waits for up to a minute.
    archived = f"SELECT coalesce(last_archived_wal >= '{segment.strip()}', false) FROM pg_stat_archiver"
    rehearsal.until(lambda: database.superuser(archived).strip() == "t", "the log has come to the backup host", 90)


def test_a_drill_proves_the_rows_of_orders_outbox_and_audit(rehearsal: Rehearsal) -> None:
    done = rehearsal.play("restore_drill")

    assert "the rows are those of then" in done.stdout
    result = json.loads(rehearsal.run(rehearsal.groups["backup"][0], "cat /var/lib/restore-drill/result.json").stdout)
    assert result["passed"]
    assert set(result["digest"]) == {"cpq.product_order", "cpq.outbox_event", "cpq.audit_entry"}
