"""The record of releases in a real database: sealed by whoever writes, and closed to those who would change it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from app.adapters.postgres.pool import Connection
from app.adapters.postgres.release_journal import ReleaseJournal, ReleaseRefusedError
from app.application.release_record import Head, Place, problems, unproven
from app.application.release_run import Holder

HOLDER = Holder("tests@control:1:2", "tests", frozenset(), timedelta(minutes=15))
RELEASE = "cpq-oms-2026.11.29-900"


@pytest.fixture
async def journal(owner_connection: Connection, admin_connection: Connection) -> AsyncIterator[ReleaseJournal]:
    yield ReleaseJournal(admin_connection)
    await owner_connection.execute(
        "UPDATE cpq.release_run SET state = 'failed', finished_at = now() WHERE state = 'running' AND holder = %s",
        (HOLDER.name,),
    )


async def test_a_run_is_sealed_into_the_record_and_its_evidence_with_it(
    journal: ReleaseJournal, owner_connection: Connection
) -> None:
    begun = await journal.begin(uuid.uuid4(), RELEASE, HOLDER)
    await journal.step(
        begun.run_id, "api", "succeeded", None, [Place("one", "", RELEASE), Place("two", "r-1", RELEASE)]
    )
    await journal.step(begun.run_id, "smoke", "succeeded", {"order": "7"})
    await journal.finish(begun.run_id, "succeeded", None)

    entries = await journal.record()
    own = [entry.content for entry in entries if entry.content["runId"] == str(begun.run_id)]
    assert [(one["step"], one["state"], one["host"], one["before"]) for one in own] == [
        ("release", "begun", None, None),
        ("api", "succeeded", "one", ""),
        ("api", "succeeded", "two", "r-1"),
        ("smoke", "succeeded", None, None),
        ("release", "succeeded", None, None),
    ]
    assert list(problems(entries)) == []
    assert list(unproven(entries, await journal.evidence())) == []

    exchange = "UPDATE cpq.release_step SET evidence = jsonb_build_object('order', %s::text) WHERE run_id = %s AND step = 'smoke'"
    await owner_connection.execute(exchange, ("8", begun.run_id))
    assert [said for said in unproven(entries, await journal.evidence()) if "smoke" in said] != []
    # The record of the environment stays whole for whoever verifies it after this test.
    await owner_connection.execute(exchange, ("7", begun.run_id))
    assert list(unproven(entries, await journal.evidence())) == []


async def test_a_copy_learns_what_follows_and_a_database_that_lost_some_is_refused(journal: ReleaseJournal) -> None:
    begun = await journal.begin(uuid.uuid4(), RELEASE, HOLDER)
    entries = await journal.finish(begun.run_id, "succeeded", None)
    known = Head(entries[-1].sequence, entries[-1].hash)

    again = await journal.begin(uuid.uuid4(), RELEASE, HOLDER, known)
    assert [entry.sequence for entry in again.entries] == [known.sequence + 1]
    await journal.finish(again.run_id, "succeeded", None)

    with pytest.raises(ReleaseRefusedError, match=f"has entry {known.sequence}, and the database has another one"):
        await journal.begin(uuid.uuid4(), RELEASE, HOLDER, Head(known.sequence, "b" * 64))
    with pytest.raises(ReleaseRefusedError, match="and the database ends before it"):
        await journal.begin(uuid.uuid4(), RELEASE, HOLDER, Head(known.sequence + 1000, known.hash))


@pytest.mark.parametrize("statement", ["UPDATE cpq.release_record SET body = '{}'", "DELETE FROM cpq.release_record"])
async def test_operators_commands_cannot_change_the_record(admin_connection: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await admin_connection.execute(statement)
