"""What the publisher makes of a reachable broker that takes nothing: an outage, or something of the events' own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from app.adapters.kafka import producer
from app.adapters.kafka.connection import KafkaConnection
from app.adapters.kafka.producer import KafkaEventPublisher
from app.messaging.outbox import Published, Rejected, Undelivered
from app.messaging.retry import Unavailable
from app.runtime.clock import SystemClock
from tests.support.events import order_event

EVENTS = [order_event("acme", uuid.uuid4(), 1) for _ in range(3)]


@dataclass
class Sent:
    """What the client hands out for a record that was sent."""

    outcome: Exception | None

    def get(self, timeout: float) -> Any:
        if self.outcome is not None:
            raise self.outcome
        return SimpleNamespace(partition=0, offset=7)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Callable[..., KafkaEventPublisher]:
    """A publisher whose client can connect and answers events in turn as given."""

    def make(*outcomes: Exception | None) -> KafkaEventPublisher:
        answers = iter(outcomes)

        class Client:
            def __init__(self, **_: Any) -> None: ...

            def send(self, *_: Any, **__: Any) -> Sent:
                return Sent(next(answers))

            def close(self, timeout: float) -> None: ...

        monkeypatch.setattr(producer, "KafkaProducer", Client)
        connection = KafkaConnection(["broker:9092"], "relay", "secret", "relay-1")
        return KafkaEventPublisher(connection, SystemClock(), timedelta(seconds=1))

    return make


@pytest.mark.parametrize("error", [NotEnoughReplicasError(), KafkaTimeoutError("delivery timeout")])
async def test_a_broker_that_takes_nothing_for_reasons_of_its_own_is_an_outage(
    publisher: Callable[..., KafkaEventPublisher], error: Exception
) -> None:
    with pytest.raises(Unavailable, match=f"none of 3 events was taken: .*{type(error).__name__}"):
        await publisher(error, NotEnoughReplicasError(), error).publish(EVENTS)


@pytest.mark.parametrize("error", [UnknownTopicOrPartitionError(), TopicAuthorizationFailedError()])
async def test_a_topic_that_takes_nothing_is_its_events_own(
    publisher: Callable[..., KafkaEventPublisher], error: Exception
) -> None:
    outcomes = await publisher(*[error] * 3).publish(EVENTS)

    assert all(isinstance(item, Undelivered) and type(error).__name__ in item.reason for item in outcomes)


@pytest.mark.parametrize("other", [None, UnknownTopicOrPartitionError()])
async def test_where_others_are_answered_for_themselves_each_event_is_answered(
    publisher: Callable[..., KafkaEventPublisher], other: Exception | None
) -> None:
    outcomes = await publisher(NotEnoughReplicasError(), other, NotEnoughReplicasError()).publish(EVENTS)

    assert [isinstance(item, Undelivered) and item.passes for item in outcomes] == [True, False, True]


async def test_a_refused_event_is_an_answer_of_a_broker_that_works(
    publisher: Callable[..., KafkaEventPublisher],
) -> None:
    outcomes = await publisher(MessageSizeTooLargeError(), None, None).publish(EVENTS)

    assert [type(outcome) for outcome in outcomes] == [Rejected, Published, Published]
