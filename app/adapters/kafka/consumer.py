"""Reads a group's records with kafka-python, which is synchronous, from one thread behind an asynchronous port.

Positions come from whoever builds the source, never from Kafka: no automatic commit, no automatic reset. A position
that the log no longer has is reported and its partition paused; jumping over unread events is nobody's default here.
So is a record that the client cannot take apart, such as one with a header name that is not UTF-8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import CorruptRecordError, KafkaError, LogTruncationError, OffsetOutOfRangeError

from app.adapters.kafka.connection import KafkaConnection, reason_of
from app.messaging.inbox import Assignment, Partition, PositionLost, Record, RecordUnreadable
from app.messaging.retry import Unavailable
from app.runtime.logging import get_logger

_DEPENDENCY = "kafka"
_BOOTSTRAP_MS = 5_000
# A restarted instance resumes its membership at once; this is how long a dead one keeps its partitions from others.
_SESSION_MS = 15_000
_POSITIONS_TIMEOUT = 8.0
_REPORT_MS = 2_000
_PROBE_MS = 2_000
_log = get_logger(__name__)

LoadPositions = Callable[[Sequence[Partition]], Awaitable[Assignment]]
T = TypeVar("T")


class KafkaEventSource:
    """See `app.messaging.inbox.EventSource`.

    Connects at the first poll. After `Unavailable` the source is disconnected and the next poll connects anew.

    Args:
        connection: where the brokers are.
        group: the consumer group.
        member: name of this member, kept over restarts; None for one that Kafka forgets as soon as it leaves.
        topics: what to read.
        batch_size: most records of one poll.
        load_positions: called with the assigned partitions, on the event loop; says where they go on and which rest.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        group: str,
        member: str | None,
        topics: Sequence[str],
        batch_size: int,
        load_positions: LoadPositions,
    ) -> None:
        self._connection = connection
        self._group = group
        self._member = member
        self._topics = list(topics)
        self._batch_size = batch_size
        self._load_positions = load_positions
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-consumer")
        self._consumer: KafkaConsumer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def poll(self, patience: float) -> Mapping[Partition, Sequence[Record]]:
        self._loop = asyncio.get_running_loop()
        return await self._run(lambda: self._poll(patience))

    async def seek(self, positions: Mapping[Partition, int | None]) -> None:
        await self._run(lambda: self._seek(positions))

    async def pause(self, partition: Partition) -> None:
        await self._run(lambda: self._if_assigned(partition, lambda consumer, known: consumer.pause(known)))

    async def resume(self, partition: Partition) -> None:
        await self._run(lambda: self._if_assigned(partition, lambda consumer, known: consumer.resume(known)))

    async def report(self, positions: Mapping[Partition, int]) -> None:
        await self._run(lambda: self._report(positions))

    async def ends(self, *, within: float) -> Mapping[Partition, int]:
        return await self._run(lambda: self._ends(within))

    async def leave(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)

    async def close(self) -> None:
        await self.leave()
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (KafkaError, OSError) as error:
            self._disconnect()
            cause = error.__cause__
            if isinstance(cause, Unavailable):  # the positions could not be loaded: not Kafka's fault
                raise cause from error
            raise Unavailable(_DEPENDENCY, reason_of(cause or error)) from error

    def _poll(self, patience: float) -> dict[Partition, list[Record]]:
        try:
            polled = self._connected().poll(timeout_ms=int(patience * 1000))
        except OffsetOutOfRangeError as error:
            raise self._lost(error.args[0]) from error
        except LogTruncationError as error:
            raise self._lost(dict.fromkeys(error.divergent_offsets, -1)) from error
        except CorruptRecordError as error:
            raise self._unreadable(error) from error
        return {
            _partition(known): [
                Record(_partition(known), record.offset, record.key, record.value, tuple(record.headers))
                for record in records
            ]
            for known, records in polled.items()
        }

    def _lost(self, positions: Mapping[TopicPartition, int]) -> PositionLost:
        self._connected().pause(*positions)
        return PositionLost({_partition(known): offset for known, offset in positions.items()})

    def _unreadable(self, error: CorruptRecordError) -> RecordUnreadable:
        """Find the record by reading each partition alone: the error does not say, and the client is of no use after it.

        Raises:
            CorruptRecordError: all can be read, so it was damaged on its way.
        """
        consumer = self._connected()
        awake = consumer.assignment() - consumer.paused()
        positions = {known: consumer.position(known, timeout_ms=_REPORT_MS) for known in awake}
        self._disconnect()
        probe = KafkaConsumer(
            **self._connection.options(),
            group_id=None,
            allow_auto_create_topics=False,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=1,
            bootstrap_timeout_ms=_BOOTSTRAP_MS,
        )
        try:
            ends = probe.end_offsets(list(positions), timeout_ms=_PROBE_MS)
            found = {
                _partition(known): offset
                for known, offset in positions.items()
                if offset is not None and offset < ends[known] and not _is_readable(probe, known, offset)
            }
        finally:
            probe.close(autocommit=False)
        if not found:
            raise error
        return RecordUnreadable(found, reason_of(error))

    def _seek(self, positions: Mapping[Partition, int | None]) -> None:
        for partition, offset in positions.items():
            self._if_assigned(partition, lambda consumer, known, to=offset or 0: consumer.seek(known, to))

    def _if_assigned(self, partition: Partition, act: Callable[..., Any]) -> None:
        known = TopicPartition(partition.topic, partition.number)
        if self._consumer is not None and known in self._consumer.assignment():
            act(self._consumer, known)

    def _report(self, positions: Mapping[Partition, int]) -> None:
        if self._consumer is None:
            return
        offsets = {
            TopicPartition(partition.topic, partition.number): OffsetAndMetadata(offset, "", -1)
            for partition, offset in positions.items()
        }
        try:
            self._consumer.commit(offsets, timeout_ms=_REPORT_MS)
        except KafkaError as error:
            # Nobody resumes from it: the next report repeats it.
            _log.info("positions_not_reported", reason=reason_of(error))

    def _ends(self, within: float) -> dict[Partition, int]:
        consumer = self._connected()
        assigned = list(consumer.assignment())
        ends = consumer.end_offsets(assigned, timeout_ms=int(within * 1000)) if assigned else {}
        return {_partition(known): end for known, end in ends.items()}

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            consumer = KafkaConsumer(
                **self._connection.options(),
                group_id=self._group,
                group_instance_id=self._member,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                max_poll_records=self._batch_size,
                bootstrap_timeout_ms=_BOOTSTRAP_MS,
                session_timeout_ms=_SESSION_MS,
                request_timeout_ms=10_000,
                metadata_max_age_ms=60_000,
                reconnect_backoff_max_ms=1_000,
            )
            consumer.subscribe(self._topics, listener=_Assignment(self._assigned))
            self._consumer = consumer
        return self._consumer

    def _assigned(self, partitions: Sequence[Partition]) -> None:
        """Runs in the client's own thread while `poll` waits; the event loop is free to ask the database."""
        if self._loop is None or self._consumer is None:
            raise RuntimeError("partitions assigned outside a poll")
        loading = asyncio.run_coroutine_threadsafe(_await(self._load_positions(partitions)), self._loop)
        try:
            assignment = loading.result(_POSITIONS_TIMEOUT)
        except TimeoutError:
            loading.cancel()
            raise Unavailable("postgresql", f"no positions within {_POSITIONS_TIMEOUT:g} s") from None
        # The client keeps the paused flag of a partition that it had before; whether one rests is not its to remember.
        resting = {TopicPartition(partition.topic, partition.number) for partition in assignment.resting}
        self._consumer.resume(*(self._consumer.assignment() - resting))
        self._consumer.pause(*(self._consumer.assignment() & resting))
        positions = assignment.positions
        self._seek(positions)
        _log.info("partitions_assigned", positions={str(key): value for key, value in positions.items()})

    def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            consumer.close(autocommit=False, timeout_ms=3_000)
        except (KafkaError, OSError) as error:
            _log.warning("kafka_close_failed", reason=reason_of(error))


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python publishes no types
    def __init__(self, assigned: Callable[[Sequence[Partition]], None]) -> None:
        self._assigned = assigned

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Nothing to save: positions are in PostgreSQL with the effects."""

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._assigned([_partition(known) for known in assigned])


def _is_readable(probe: KafkaConsumer, known: TopicPartition, offset: int) -> bool:
    probe.assign([known])
    probe.seek(known, offset)
    try:
        probe.poll(timeout_ms=_PROBE_MS)
    except CorruptRecordError:
        return False
    return True


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _partition(known: TopicPartition) -> Partition:
    return Partition(known.topic, known.partition)
