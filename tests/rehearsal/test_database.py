"""Losing a database host, or handing over, loses no row that was acknowledged and blocks writers for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rehearsal.database import Database
from tests.support.rehearsal import Rehearsal


@pytest.fixture
def database(rehearsal: Rehearsal) -> Iterator[Database]:
    """Give a database that is whole, and leave it so."""
    found = Database(rehearsal)
    found.settle()
    found.superuser("DROP SCHEMA IF EXISTS probe CASCADE; CREATE SCHEMA probe AUTHORIZATION cpq_owner;")
    found.superuser("SET ROLE cpq_owner; CREATE TABLE probe.written (n int PRIMARY KEY)")
    yield found
    rehearsal.start(*found.hosts, *rehearsal.groups["witness"])
    found.settle()
    found.superuser("DROP SCHEMA probe CASCADE")


def judge(database: Database, acknowledged: dict[int, float], silence: float, most: float) -> None:
    """Compare what was acknowledged with what is there."""
    print(f"{len(acknowledged)} rows acknowledged, longest silence {silence:.1f} s")
    assert acknowledged.keys() <= database.kept(), "an acknowledged row is lost"
    assert silence <= most


# The right to be primary ends 20 s after it was last renewed; then come promotion and a client's way past the host that is silent.
def test_a_lost_primary_takes_nothing_acknowledged_with_it(rehearsal: Rehearsal, database: Database) -> None:
    lost = database.primary()

    acknowledged, silence = database.write_while(50, lambda: rehearsal.kill(lost))

    assert database.primary() != lost
    judge(database, acknowledged, silence, 35)


def test_a_primary_that_is_cut_off_acknowledges_nothing_and_follows_afterwards(database: Database) -> None:
    lost = database.primary()

    acknowledged, silence = database.write_while(70, lambda: database.cut_off(lost, 50))

    assert database.primary() != lost
    judge(database, acknowledged, silence, 35)
    database.settle()


# The kernel of a host that is killed here still closes its connections, so the loss is noticed at once.
def test_a_lost_standby_holds_writers_up_for_seconds(rehearsal: Rehearsal, database: Database) -> None:
    primary, lost = database.primary(), database.standby()

    acknowledged, silence = database.write_while(30, lambda: rehearsal.kill(lost))

    assert database.primary() == primary
    judge(database, acknowledged, silence, 15)


# Nothing tells that the standby is gone: commits wait until the server ends its connection (5 s) and Patroni has let it go.
def test_a_standby_that_is_cut_off_holds_writers_up_for_seconds(database: Database) -> None:
    primary, lost = database.primary(), database.standby()

    acknowledged, silence = database.write_while(35, lambda: database.cut_off(lost, 20))

    assert database.primary() == primary
    judge(database, acknowledged, silence, 15)


def test_a_lost_witness_holds_nobody_up(rehearsal: Rehearsal, database: Database) -> None:
    primary = database.primary()

    acknowledged, silence = database.write_while(20, lambda: rehearsal.kill(rehearsal.groups["witness"][0]))

    assert database.primary() == primary
    judge(database, acknowledged, silence, 10)


def test_a_switchover_loses_nothing_and_takes_seconds(rehearsal: Rehearsal, database: Database) -> None:
    target = database.standby()

    acknowledged, silence = database.write_while(
        40, lambda: rehearsal.play("switchover", "-e", f"postgresql_target={target}")
    )

    assert database.primary() == target
    judge(database, acknowledged, silence, 15)


def test_a_switchover_to_a_standby_that_is_not_synchronous_is_refused(rehearsal: Rehearsal, database: Database) -> None:
    primary, standby = database.primary(), database.standby()
    rehearsal.run(standby, "systemctl stop patroni")
    try:
        done = rehearsal.play(
            "switchover", "-e", f"postgresql_target={standby}", "-e", "postgresql_health_timeout=10", check=False
        )

        assert done.returncode != 0
        assert database.primary() == primary
    finally:
        rehearsal.run(standby, "systemctl start patroni")
