"""Freezes in a real database: declared, refused a second time, passed over on record, ended."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.adapters.postgres.pool import Connection
from app.adapters.postgres.release_journal import ReleaseJournal, ReleaseRefusedError
from app.application.release_run import Holder
from tests.support.operator import Operator

HOLDER = Holder("tests@control:1:3", "tests", frozenset(), timedelta(minutes=15))
LATER = Holder("tests@control:1:4", "tests", frozenset(), timedelta(minutes=15))
RELEASE = "cpq-oms-2026.11.29-901"
REASON = ("--reason", "end of quarter, OPS-811")


@pytest.fixture
async def journal(owner_connection: Connection, admin_connection: Connection) -> AsyncIterator[ReleaseJournal]:
    yield ReleaseJournal(admin_connection)
    await owner_connection.execute("DELETE FROM cpq.release_freeze")
    await owner_connection.execute(
        "UPDATE cpq.release_run SET state = 'failed', finished_at = now() WHERE state = 'running' AND release_id = %s",
        (RELEASE,),
    )


async def test_a_freeze_refuses_releases_until_it_is_ended(journal: ReleaseJournal, operator: Operator) -> None:
    declared = await operator.run("release", "freeze", *REASON)
    assert declared.changed, declared.problems

    with pytest.raises(ReleaseRefusedError, match="releases are frozen: end of quarter, OPS-811"):
        await journal.begin(uuid.uuid4(), RELEASE, HOLDER)
    [problem] = (await operator.run("release", "freeze", *REASON)).problems
    assert problem.startswith("releases are frozen already: end of quarter")
    status = await operator.run("release", "status")
    assert "end of quarter, OPS-811" in status.data["freeze"]

    ended = await operator.run("release", "thaw", "--reason", "the quarter is over")
    assert ended.changed, ended.problems
    begun = await journal.begin(uuid.uuid4(), RELEASE, HOLDER)
    await journal.finish(begun.run_id, "succeeded", None)
    [problem] = (await operator.run("release", "thaw", "--reason", "the quarter is over")).problems
    assert problem == "no freeze is in force: nothing to end"


async def test_a_word_lets_a_release_pass_and_is_on_record(journal: ReleaseJournal, operator: Operator) -> None:
    await operator.run("release", "freeze", *REASON)

    begun = await journal.begin(uuid.uuid4(), RELEASE, HOLDER, despite="the mend of INC-7, approved by ben")
    await journal.finish(begun.run_id, "succeeded", None)

    said = [entry.content for entry in await journal.record() if entry.content["runId"] == str(begun.run_id)]
    [override] = [one for one in said if one["step"] == "override"]
    assert "end of quarter, OPS-811" in override["detail"]
    assert "the mend of INC-7, approved by ben" in override["detail"]


async def test_a_release_under_way_is_finished_in_a_freeze(journal: ReleaseJournal, operator: Operator) -> None:
    begun = await journal.begin(uuid.uuid4(), RELEASE, HOLDER)
    await operator.run("release", "freeze", *REASON)

    # The same host says that the first playbook is gone.
    again = await journal.begin(uuid.uuid4(), RELEASE, LATER)

    assert (again.run_id, again.resumed) == (begun.run_id, True)


async def test_a_freeze_ends_by_itself_and_leaves_its_place(
    journal: ReleaseJournal, operator: Operator, owner_connection: Connection
) -> None:
    [problem] = (await operator.run("release", "freeze", *REASON, "--until", "2026-01-01T00:00")).problems
    assert problem.startswith("--until: expected a time to come")
    assert (await operator.run("release", "freeze", *REASON, "--until", "2126-01-01T00:00")).changed
    await owner_connection.execute(
        "UPDATE cpq.release_freeze SET frozen_at = now() - interval '2 hours', until = now() - interval '1 hour'"
    )

    begun = await journal.begin(uuid.uuid4(), RELEASE, HOLDER)
    await journal.finish(begun.run_id, "succeeded", None)
    assert (await operator.run("release", "freeze", *REASON)).changed
