from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.contracts.loader import DIRECTORY
from app.messaging.dead_letters import DeadLetter, DeadLetterPublisher, document
from app.messaging.envelope import Envelope
from app.messaging.inbox import Header, Partition, Record
from app.messaging.outbox import Delivery, Published, Rejected
from app.messaging.parking import Category, aggregate_key, event_id_of, failure_of
from app.messaging.retry import Backoff, Poison, Unavailable
from tests.support.builders import NOON

PLACE = Partition("oms.order.events.v1", 2)
LETTER = DeadLetter(
    dead_letter_id=UUID(int=7),
    tenant_id="acme",
    consumer_group="order-projection",
    partition=PLACE,
    offset=41,
    aggregate_key="order-1",
    event_id=UUID(int=8),
    error_code="sqlstate-23514",
    error_category="refused",
    retry_count=4,
    failed_at=NOON,
    publish_attempts=0,
    record=Record(PLACE, 41, b"order-1", b"\xff{}", (("ce_id", b"x"),)),
)


def test_a_dead_letter_has_its_nine_fields_and_what_the_schema_requires() -> None:
    told = document(LETTER, "inline")
    schema = json.loads((DIRECTORY / "events/dead_letter.v1.schema.json").read_text())

    assert set(schema["required"]) == set(told) == set(schema["properties"])
    assert (told["originalTopic"], told["originalPartition"], told["originalOffset"]) == (PLACE.topic, 2, 41)
    assert base64.b64decode(told["payload"]["value"]) == b"\xff{}"
    assert "dead-letters replay 00000000-0000-0000-0000-000000000007" in told["replay"]


@pytest.mark.parametrize(
    "letter",
    [
        replace(LETTER, record=None),
        replace(LETTER, record=Record(PLACE, 41, None, b"x" * 600_000, ())),
        replace(LETTER, record=Record(PLACE, 41, b"order-1", b"{}", (("ce_id", None),))),
    ],
    ids=["no longer parked", "too large", "a header without a value"],
)
def test_what_cannot_travel_is_referred_to(letter: DeadLetter) -> None:
    assert document(letter, "inline")["payload"] == {"reference": "oms.order.events.v1[2]@41"}
    assert document(LETTER, "reference")["payload"] == {"reference": "oms.order.events.v1[2]@41"}


@dataclass
class Desk:
    """A store and a broker."""

    letters: list[DeadLetter]
    answers: list[Delivery] | None = None
    sent: list[Envelope] = field(default_factory=list)
    done: dict[UUID, Published] = field(default_factory=dict)
    postponed: dict[UUID, str] = field(default_factory=dict)

    async def unpublished(self, limit: int) -> list[DeadLetter]:
        return self.letters[:limit]

    async def published(self, letter: DeadLetter, where: Published) -> None:
        self.done[letter.dead_letter_id] = where

    async def postpone(self, letter: DeadLetter, reason: str, delay: timedelta) -> None:
        self.postponed[letter.dead_letter_id] = reason

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Delivery]:
        if self.answers is None:
            raise Unavailable("kafka", "away")
        self.sent += envelopes
        return self.answers

    async def close(self) -> None: ...


def publisher(desk: Desk) -> DeadLetterPublisher:
    return DeadLetterPublisher(desk, desk, {PLACE.topic: "inline"}, Backoff(1, 1))


async def test_what_the_broker_took_is_marked_and_the_rest_comes_again() -> None:
    other = replace(LETTER, dead_letter_id=UUID(int=9))
    desk = Desk([LETTER, other], [Published(0, 3), Rejected("too large")])

    await publisher(desk).run()

    assert [envelope.topic for envelope in desk.sent] == ["oms.order.events.v1.dlq"] * 2
    assert [envelope.event_id for envelope in desk.sent] == [UUID(int=7), UUID(int=9)]
    assert desk.done == {UUID(int=7): Published(0, 3)}
    assert desk.postponed == {UUID(int=9): "too large"}


async def test_a_broker_that_is_away_costs_time_and_nothing_else() -> None:
    desk = Desk([LETTER])

    await publisher(desk).run()

    assert desk.postponed == {UUID(int=7): "kafka: away"}


def test_failures_are_named_without_the_events_data() -> None:
    refused = failure_of(Poison("duplicate key", "sqlstate-23505"))
    defect = failure_of(KeyError("customer 4711"))

    assert (refused.code, refused.category) == ("sqlstate-23505", Category.REFUSED)
    assert (defect.code, defect.category) == ("KeyError", Category.DEFECT)
    assert failure_of(Poison("header ce_id is missing"), is_reading=True).category is Category.MALFORMED


def test_a_record_without_a_key_is_an_aggregate_of_its_own() -> None:
    assert aggregate_key(Record(PLACE, 5, None, b"", ())) == "oms.order.events.v1[2]@5"
    assert aggregate_key(Record(PLACE, 5, b"a\x00\xff", b"", ())) == "a\\x00\\xff"


def test_a_key_longer_than_an_index_takes_is_shortened_and_still_one_aggregates_own() -> None:
    keys = [aggregate_key(Record(PLACE, 5, b"k" * 4000 + last, b"", ())) for last in (b"1", b"2")]

    assert keys[0] != keys[1]
    assert max(len(key.encode()) for key in keys) < 600
    assert keys[0] == aggregate_key(Record(PLACE, 9, b"k" * 4000 + b"1", b"", ()))


@pytest.mark.parametrize(
    ("headers", "event_id"),
    [
        ((("ce_id", str(UUID(int=8)).encode()), ("ce_type", None)), UUID(int=8)),
        ((("ce_id", None),), None),
        ((("ce_id", b"\xff"),), None),
        ((("ce_id", b"8"),), None),
        ((("ce_id", str(UUID(int=8)).encode()), ("ce_id", str(UUID(int=9)).encode())), None),
        ((), None),
    ],
    ids=["another header is wrong", "no value", "not UTF-8", "no UUID", "there twice", "no headers"],
)
def test_the_id_of_an_event_is_asked_for_whatever_is_wrong_with_it(
    headers: tuple[Header, ...], event_id: UUID | None
) -> None:
    assert event_id_of(Record(PLACE, 5, None, None, headers)) == event_id
