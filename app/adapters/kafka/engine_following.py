"""Follows what the workflow engine exports to its topic, without a consumer group: where it stands is the follower's own.

Synchronous: run it in a thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from app.adapters.kafka.connection import KafkaConnection, reason_of

_TOPIC = "zeebe"
_POLL_MS = 500
_TIMEOUT_MS = 5000

Place = tuple[int, int]


class FollowingStoppedError(Exception):
    """The brokers do not answer, or the topic is not there yet; the message says which."""


def follow(
    connection: KafkaConnection,
    places: Mapping[int, int],
    take: Callable[[Sequence[tuple[int, int, Mapping[str, Any]]]], None],
    stop: threading.Event,
) -> None:
    """Hand over batches of (partition, offset, record) from the given places on, empty ones too, until stopped.

    What has been deleted before it was read is skipped: reading goes on at the oldest record there is.

    Raises:
        FollowingStoppedError: reading cannot go on; call again later.
    """
    try:
        consumer = KafkaConsumer(
            **connection.options(),
            group_id=None,
            allow_auto_create_topics=False,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_TIMEOUT_MS,
        )
        with closing(consumer):
            numbers = consumer.partitions_for_topic(_TOPIC)
            if not numbers:
                raise FollowingStoppedError(f"topic {_TOPIC} does not exist")
            partitions = [TopicPartition(_TOPIC, number) for number in numbers]
            consumer.assign(partitions)
            oldest, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            for partition in partitions:
                place = places.get(partition.partition, 0)
                # A topic that was made anew is shorter than what was read of the former one.
                consumer.seek(
                    partition, oldest[partition] if place > ends[partition] else max(place, oldest[partition])
                )
            while not stop.is_set():
                take(list(_records(consumer.poll(timeout_ms=_POLL_MS))))
    except (KafkaError, OSError) as error:
        raise FollowingStoppedError(reason_of(error)) from error


def _records(batches: Mapping[TopicPartition, Sequence[Any]]) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    for partition, messages in batches.items():
        for message in messages:
            if message.value:
                yield partition.partition, message.offset, json.loads(message.value)
