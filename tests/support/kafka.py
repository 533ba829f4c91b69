"""The outside view of Kafka for tests: everything that a topic holds, and records as anybody might write them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError

from app.adapters.kafka.connection import KafkaConnection
from app.messaging.inbox import Partition, Record
from tests.support.services import Services
from tests.support.waiting import until


class _Headers(list[tuple[str, bytes | None]]):
    """Headers that the client does not add up the sizes of, which it cannot where a value is missing."""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Kafka:
    """Kafka as its super user sees it."""

    services: Services

    def connection(self, user: str, client_id: str = "tests") -> KafkaConnection:
        """How one of the units' users connects."""
        return KafkaConnection(
            bootstrap_servers=[self.services.address("kafka")],
            username=user,
            password=self.services.secret(f"kafka_{user}_password"),
            client_id=client_id,
        )

    def records(self, topic: str) -> list[Record]:
        """Everything the topic holds, partition by partition in offset order."""
        consumer = KafkaConsumer(
            **self.connection("admin").options(), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            # Under load its first look at the cluster may not be there yet, and no partition would be no record.
            until(lambda: bool(consumer.partitions_for_topic(topic)), f"the client knows the partitions of {topic}")
            assigned = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(assigned)
            consumer.seek_to_beginning(*assigned)
            ends = consumer.end_offsets(assigned)
            found: list[Record] = []
            while any(consumer.position(known) < ends[known] for known in assigned):
                for known, batch in consumer.poll(timeout_ms=500).items():
                    partition = Partition(known.topic, known.partition)
                    found += [Record(partition, r.offset, r.key, r.value, tuple(r.headers)) for r in batch]
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def write(self, records: list[Record]) -> None:
        """Write records as they are, to the partition they name."""
        producer = KafkaProducer(**self.connection("admin").options(), acks="all")
        try:
            for record in records:
                producer.send(
                    record.partition.topic,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    partition=record.partition.number,
                ).get(10)
        finally:
            producer.close()

    def write_as_others_do(self, records: list[Record]) -> None:
        """Write what our own client refuses to write and Kafka takes: headers without a value, neither key nor value."""
        producer = KafkaProducer(**self.connection("admin").options(), acks="all")
        try:
            for record in records:
                place = TopicPartition(record.partition.topic, record.partition.number)
                producer.partitions_for(place.topic)
                now = int(time.time() * 1000)
                sent, *_ = producer._accumulator.append(place, now, record.key, record.value, _Headers(record.headers))
                producer.flush(10)
                sent.get(10)
        finally:
            producer.close()

    def commit(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Make Kafka remember offsets for a group, as someone who resets offsets would.

        The broker allows it once the group's last member has been gone for its session's time.
        """
        consumer = KafkaConsumer(**self.connection("admin").options(), group_id=group, enable_auto_commit=False)
        end = time.monotonic() + 40
        try:
            wanted = {
                TopicPartition(partition.topic, partition.number): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets.items()
            }
            consumer.assign(list(wanted))
            while True:
                try:
                    consumer.commit(wanted)
                except CommitFailedError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.5)
                else:
                    return
        finally:
            consumer.close()
