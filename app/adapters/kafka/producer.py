"""Publishes envelopes with kafka-python, which is synchronous, from one thread behind an asynchronous port.

acks=all and the idempotent producer: the broker drops what the client sends twice. After any event that was not taken
the producer is thrown away, so nothing of a finished call can still be sent later, behind the caller's back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RetriableError,
    UnknownTopicOrPartitionError,
    UnsupportedForMessageFormatError,
)

from app.adapters.kafka.connection import KafkaConnection, reason_of
from app.messaging import cloudevents
from app.messaging.envelope import Envelope
from app.messaging.outbox import Delivery, Published, Rejected, Undelivered
from app.messaging.retry import Unavailable
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

_DEPENDENCY = "kafka"
_CLOSING_PAUSE_SECONDS = 0.05
_log = get_logger(__name__)
_PERMANENT = (
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
    TypeError,
    ValueError,
)


class KafkaEventPublisher:
    """See `app.messaging.outbox.RelayPublisher`.

    Args:
        connection: where the brokers are.
        clock: for the time limit of a call.
        patience: how long a sent event may wait for the broker's word; a call takes at most about three times as long.
    """

    def __init__(self, connection: KafkaConnection, clock: Clock, patience: timedelta) -> None:
        self._connection = connection
        self._clock = clock
        self._patience = patience.total_seconds()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-producer")
        self._producer: KafkaProducer | None = None

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Delivery]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._publish, envelopes)

    async def reach(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connected)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._discard)
        self._thread.shutdown(wait=False)

    def _publish(self, envelopes: Sequence[Envelope]) -> list[Delivery]:
        deadline = self._clock.monotonic() + 2 * self._patience
        deliveries = self._send(envelopes)
        refused = [index for index, delivery in enumerate(deliveries) if isinstance(delivery, Rejected)]
        if len(refused) > 1:
            # The broker judges batches: of several events refused together, each is asked for by itself, so that no
            # sound event is parked for its neighbour. What the time does not allow stays for a later call.
            for index in refused:
                late = self._clock.monotonic() > deadline
                deliveries[index] = Undelivered("refused in a batch") if late else self._send([envelopes[index]])[0]
        if any(isinstance(delivery, Undelivered) for delivery in deliveries):
            self._discard()
            if not any(isinstance(delivery, Published | Rejected) for delivery in deliveries):
                self._connected()  # raises when it is the broker and not these events
                if reasons := _outage(deliveries):
                    raise Unavailable(_DEPENDENCY, f"none of {len(deliveries)} events was taken: {reasons}")
        return deliveries

    def _send(self, envelopes: Sequence[Envelope]) -> list[Delivery]:
        producer = self._connected()
        silent_topics: dict[str, str] = {}
        results: list[Any] = []
        for envelope in envelopes:
            if envelope.topic in silent_topics:
                results.append(Undelivered(silent_topics[envelope.topic]))
                continue
            try:
                results.append(
                    producer.send(
                        envelope.topic,
                        key=envelope.partition_key.encode(),
                        value=envelope.payload.encode(),
                        headers=cloudevents.encode(envelope),
                    )
                )
            except _PERMANENT as error:
                results.append(Rejected(reason_of(error)))
            except KafkaTimeoutError:
                # Each further event of this topic would wait just as long for the same answer.
                silent_topics[envelope.topic] = f"no metadata for topic {envelope.topic}: does it exist?"
                results.append(Undelivered(silent_topics[envelope.topic]))
            except KafkaError as error:
                results.append(_undelivered(error))
        deadline = self._clock.monotonic() + self._patience
        return [
            result if isinstance(result, Undelivered | Rejected) else self._outcome(result, deadline)
            for result in results
        ]

    def _outcome(self, sent: Any, deadline: float) -> Delivery:
        try:
            metadata = sent.get(timeout=max(0.0, deadline - self._clock.monotonic()))
        except _PERMANENT as error:
            return Rejected(reason_of(error))
        except KafkaError as error:
            return _undelivered(error)
        return Published(partition=metadata.partition, offset=metadata.offset if metadata.offset >= 0 else None)

    def _connected(self) -> KafkaProducer:
        if self._producer is None:
            milliseconds = int(self._patience * 1000)
            try:
                self._producer = KafkaProducer(
                    **self._connection.options(),
                    acks="all",
                    enable_idempotence=True,
                    allow_auto_create_topics=False,
                    bootstrap_timeout_ms=milliseconds // 2,
                    max_block_ms=milliseconds // 2,
                    request_timeout_ms=milliseconds,
                    delivery_timeout_ms=milliseconds,
                    # A topic that is created after an event was refused for lack of it is found at once.
                    metadata_max_age_ms=60_000,
                    reconnect_backoff_max_ms=1_000,
                )
            except (KafkaError, OSError) as error:
                raise Unavailable(_DEPENDENCY, reason_of(error)) from error
        return self._producer

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        end = self._clock.monotonic() + 2 * self._patience
        while producer is not None:
            try:
                producer.close(timeout=0)
            except KafkaTimeoutError:
                # It will not end while a batch is under way, and goes on sending; each batch expires after its patience.
                if self._clock.monotonic() > end:
                    _log.error("producer_not_closed")  # what it still sends is sent twice, which the inbox bears
                    return
                time.sleep(_CLOSING_PAUSE_SECONDS)
            else:
                return


def _undelivered(error: KafkaError) -> Undelivered:
    """A topic that is not there stays away until somebody creates it; too few copies in sync, say, is an outage."""
    passes = isinstance(error, RetriableError) and not isinstance(error, UnknownTopicOrPartitionError)
    return Undelivered(reason_of(error), passes=passes)


def _outage(deliveries: Sequence[Delivery]) -> str:
    """Why a reachable broker takes nothing at all, where that is nothing of the events' own; else empty."""
    passing = [delivery for delivery in deliveries if isinstance(delivery, Undelivered) and delivery.passes]
    return ", ".join(sorted({delivery.reason for delivery in passing})) if len(passing) == len(deliveries) else ""
