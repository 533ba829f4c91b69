"""Publishes dead letters to `<topic>.dlq`: a row first, then the record under the same id as often as it takes.

A dead letter names where the event was read, what was wrong, who failed and how often, and what to do about it. Its
value is JSON (contracts/events/dead_letter.v1.schema.json); the event's own bytes go along where the topic allows it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from app.messaging.envelope import Envelope
from app.messaging.inbox import Partition, Record
from app.messaging.outbox import EventPublisher, Published
from app.messaging.retry import Backoff, Unavailable
from app.runtime.logging import get_logger

PayloadChoice = Literal["inline", "reference"]
EVENT_TYPE = "EventDeadLettered"
# Base64 and the rest of the document must stay below the size that the broker takes for one record.
_INLINE_LIMIT_BYTES = 512 * 1024
_BATCH = 20
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event given up on; `record` is None when it is no longer parked."""

    dead_letter_id: UUID
    tenant_id: str
    consumer_group: str
    partition: Partition
    offset: int
    aggregate_key: str
    event_id: UUID | None
    error_code: str
    error_category: str
    retry_count: int
    failed_at: datetime
    publish_attempts: int
    record: Record | None


class DeadLetterStore(Protocol):
    """A group's dead letters. Every method raises `Unavailable` when the store cannot be asked."""

    async def unpublished(self, limit: int) -> list[DeadLetter]:
        """Return dead letters that are due for publication."""
        ...

    async def published(self, letter: DeadLetter, where: Published) -> None:
        """Note that the broker acknowledged it."""
        ...

    async def postpone(self, letter: DeadLetter, reason: str, delay: timedelta) -> None:
        """Try its publication again after the delay."""
        ...


def dead_letter_topic(topic: str) -> str:
    """The topic that takes another's dead letters."""
    return f"{topic}.dlq"


def document(letter: DeadLetter, choice: PayloadChoice) -> dict[str, Any]:
    """The value of a dead letter's record: nine fields, of which the payload may be a reference."""
    reference = f"{letter.partition}@{letter.offset}"
    payload: dict[str, Any] = {"reference": reference}
    record = letter.record
    if choice == "inline" and record is not None and _may_travel(record):
        payload |= {
            "key": _base64(record.key),
            "value": _base64(record.value),
            "headers": [[name, _base64(value)] for name, value in record.headers],
        }
    return {
        "deadLetterId": str(letter.dead_letter_id),
        "tenantId": letter.tenant_id,
        "originalTopic": letter.partition.topic,
        "originalPartition": letter.partition.number,
        "originalOffset": letter.offset,
        "eventId": str(letter.event_id) if letter.event_id else None,
        "errorCode": letter.error_code,
        "errorCategory": letter.error_category,
        "consumer": letter.consumer_group,
        "retryCount": letter.retry_count,
        "failedAt": letter.failed_at.isoformat(),
        "payload": payload,
        "replay": f"cpq-oms-admin dead-letters replay {letter.dead_letter_id} --reason REASON",
    }


def _may_travel(record: Record) -> bool:
    """Version 1 of the schema has no word for a header without a value: such a record is referred to."""
    return len(record.value or b"") <= _INLINE_LIMIT_BYTES and all(value is not None for _, value in record.headers)


def envelope_of(letter: DeadLetter, choice: PayloadChoice) -> Envelope:
    """The dead letter as it travels; its key is the aggregate's, so one order's dead letters keep their order."""
    return Envelope(
        event_id=letter.dead_letter_id,
        tenant_id=letter.tenant_id,
        aggregate_type="dead_letter",
        aggregate_id=letter.dead_letter_id,
        aggregate_seq=1,
        event_type=EVENT_TYPE,
        topic=dead_letter_topic(letter.partition.topic),
        partition_key=letter.aggregate_key,
        payload=json.dumps(document(letter, choice)),
        occurred_at=letter.failed_at,
    )


class DeadLetterPublisher:
    """Publishes what is due and marks it.

    Args:
        store: the dead letters of a group.
        publisher: the way to the topics.
        choices: by topic, whether its events may travel with their dead letters.
        backoff: how long an unpublished one rests.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        publisher: EventPublisher,
        choices: Mapping[str, PayloadChoice],
        backoff: Backoff,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._choices = choices
        self._backoff = backoff

    async def run(self) -> None:
        """Publish one batch; a broker that does not answer costs time and nothing else.

        Raises:
            Unavailable: the store cannot be asked.
        """
        letters = await self._store.unpublished(_BATCH)
        if not letters:
            return
        try:
            deliveries = await self._publisher.publish(
                [envelope_of(letter, self._choices[letter.partition.topic]) for letter in letters]
            )
        except Unavailable as error:
            await self._postpone(letters, str(error))
            return
        for letter, delivery in zip(letters, deliveries, strict=True):
            if isinstance(delivery, Published):
                await self._store.published(letter, delivery)
            else:
                await self._postpone([letter], delivery.reason)

    async def _postpone(self, letters: Sequence[DeadLetter], reason: str) -> None:
        for letter in letters:
            delay = timedelta(seconds=self._backoff.delay(letter.publish_attempts + 1))
            _log.warning("dead_letter_not_published", dead_letter_id=str(letter.dead_letter_id), reason=reason)
            await self._store.postpone(letter, reason, delay)


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
