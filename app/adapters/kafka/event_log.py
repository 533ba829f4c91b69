"""Reads a topic of events again, from its beginning to its end and later on from there; leaves no trace in the cluster.

Synchronous: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from app.adapters.kafka.administration import KafkaUnreachableError
from app.messaging.inbox import Partition, Record

_TIMEOUT_MS = 5000
_POLL_MS = 500
_IDLE_POLLS = 20


class EventLog:
    """A reader of one topic, without a consumer group.

    Args:
        configuration: how to connect.
        topic: what to read.
    """

    def __init__(self, configuration: dict[str, Any], topic: str) -> None:
        self._topic = topic
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        try:
            self._consumer = KafkaConsumer(
                **configuration,
                request_timeout_ms=_TIMEOUT_MS,
                bootstrap_timeout_ms=_TIMEOUT_MS,
                enable_auto_commit=False,
                group_id=None,
                allow_auto_create_topics=False,
            )
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error

    def look_for_end(self) -> None:
        """Set where reading ends: the topic's end as it is now."""
        try:
            partitions = self._partitions()
            self._ends = self._consumer.end_offsets(partitions)
            self._consumer.assign(partitions)
            beginnings = self._consumer.beginning_offsets(partitions)
            for partition in partitions:
                start = max(self._positions.get(partition, 0), beginnings[partition])
                self._positions[partition] = start
                self._consumer.seek(partition, start)
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error

    def next_batch(self) -> Sequence[Record]:
        """Return the next records, in order per partition; none at the end.

        Raises:
            KafkaUnreachableError: the topic gave nothing for a while before its end.
        """
        for _ in range(_IDLE_POLLS):
            if all(self._positions[partition] >= end for partition, end in self._ends.items()):
                return []
            try:
                polled = self._consumer.poll(timeout_ms=_POLL_MS)
            except (KafkaError, OSError) as error:
                raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error
            # Markers and compacted records move a position without a record.
            for partition in self._ends:
                self._positions[partition] = self._consumer.position(partition)
            if polled:
                return [
                    Record(Partition(known.topic, known.partition), r.offset, r.key, r.value, tuple(r.headers))
                    for known, batch in polled.items()
                    for r in batch
                ]
        raise KafkaUnreachableError(f"{self._topic} gave no record before its end")

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Return the oldest offset and the end of each partition, as they are now.

        Raises:
            KafkaUnreachableError: the cluster did not answer, or has no such topic.
        """
        try:
            partitions = self._partitions()
            beginnings, ends = self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error
        return {known.partition: (beginnings[known], ends[known]) for known in partitions}

    def _partitions(self) -> list[TopicPartition]:
        numbers = self._consumer.partitions_for_topic(self._topic)
        if not numbers:
            raise KafkaUnreachableError(f"topic {self._topic} does not exist")
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close(autocommit=False)
