"""The record of releases: whoever alters, removes, adds or reorders an entry is found out."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.application.release_record import (
    Act,
    Entry,
    Head,
    Place,
    differences,
    problems,
    sealed,
    states,
    unproven,
)

RUN, LATER = uuid.UUID(int=1), uuid.UUID(int=2)
AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
OLD, NEW = "cpq-oms-2026.11.28-001", "cpq-oms-2026.11.29-001"


def act(step: str, *, run: uuid.UUID = RUN, place: Place | None = None, evidence: object = None) -> Act:
    return Act(run, NEW, "ann", "ann@control:1:2", step, "succeeded", AT, place, evidence=evidence)


@pytest.fixture
def record() -> list[Entry]:
    first = sealed([act("release"), act("api", place=Place("api-1", OLD, NEW))], Head())
    return first + sealed([act("smoke", evidence={"order": "7"})], Head(first[-1].sequence, first[-1].hash))


def test_an_untouched_record_is_whole(record: list[Entry]) -> None:
    assert [entry.sequence for entry in record] == [1, 2, 3]
    assert list(problems(record)) == []


def test_an_altered_entry_is_named(record: list[Entry]) -> None:
    record[1] = replace(record[1], body=record[1].body.replace("api-1", "api-2"))

    assert list(problems(record)) == ["entry 2 is not what its hash is of"]


def test_an_altered_entry_that_was_sealed_again_breaks_the_next_one(record: list[Entry]) -> None:
    forged = sealed([act("api", place=Place("api-2", OLD, NEW))], Head(1, record[0].hash))

    assert list(problems([record[0], *forged, record[2]])) == [
        "entry 3 was sealed after another entry 2 than the one that is here"
    ]


def test_an_entry_that_was_taken_out_is_missed(record: list[Entry]) -> None:
    assert list(problems([record[0], record[2]])) == ["entry 3 follows entry 1"]


def test_an_entry_that_was_numbered_anew_is_named(record: list[Entry]) -> None:
    moved = replace(record[2], sequence=2)

    assert "entry 2 was sealed after another entry 1 than the one that is here" in list(problems([record[0], moved]))


@given(st.integers(0, 2), st.data())
def test_no_character_changes_unseen(which: int, data: st.DataObject) -> None:
    entries = sealed([act("api", place=Place("api-1", OLD, NEW)), act("worker"), act("smoke", evidence=1)], Head())
    body = entries[which].body
    at = data.draw(st.integers(0, len(body) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda found: found != body[at]))
    entries[which] = replace(entries[which], body=body[:at] + letter + body[at + 1 :])

    assert f"entry {which + 1} is not what its hash is of" in list(problems(entries))


def test_evidence_that_was_exchanged_is_named(record: list[Entry]) -> None:
    assert list(unproven(record, {(str(RUN), "smoke"): {"order": "7"}})) == []
    assert list(unproven(record, {(str(RUN), "smoke"): {"order": "8"}})) == [
        "entry 3: the evidence of step smoke is not what was recorded"
    ]
    assert list(unproven(record, {})) == ["entry 3: the evidence of step smoke is not what was recorded"]


def test_two_releases_differ_by_what_hosts_ran_when_each_had_ended() -> None:
    first = sealed([act("api", place=Place("api-1", "", OLD)), act("relay", place=Place("relay-1", "", OLD))], Head())
    head = Head(first[-1].sequence, first[-1].hash)
    both = first + sealed([act("api", run=LATER, place=Place("api-1", OLD, NEW))], head)

    assert differences(states(both, RUN), states(both, LATER)) == [f"api-1 api: {OLD} -> {NEW}"]
    assert differences(states(both, RUN), states(both, RUN)) == []
