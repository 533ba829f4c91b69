"""Reads what the workflow engine exported to its topic: the outside view of instances, jobs and incidents.

The engine's exporter writes every record as JSON. Reading starts at a point in time and ends at the topic's end as it
was when reading began, so it is bounded whatever else is written meanwhile. Synchronous: call it in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from app.adapters.kafka.administration import KafkaUnreachableError

TOPIC = "zeebe"

_TIMEOUT_MS = 5000
_POLL_MS = 500
_IDLE_POLLS = 10


@dataclass(frozen=True)
class Incident:
    """An incident the engine opened and has not resolved."""

    key: int
    process_id: str
    element_id: str
    message: str
    created_at_ms: int


class EngineRecords:
    """A reader of its own, without a consumer group: it leaves no trace in the cluster."""

    def __init__(self, servers: Sequence[str], username: str, password: str) -> None:
        self._configuration: dict[str, Any] = {
            "bootstrap_servers": list(servers),
            "client_id": "cpq-oms-admin",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": username,
            "sasl_plain_password": password,
            "request_timeout_ms": _TIMEOUT_MS,
            "bootstrap_timeout_ms": _TIMEOUT_MS,
            "enable_auto_commit": False,
            "group_id": None,
        }

    def open_incidents(self, since: datetime) -> list[Incident] | None:
        """Incidents created since a moment and not resolved; None where the topic does not exist yet.

        Raises:
            KafkaUnreachableError: the topic could not be read to its end.
        """
        try:
            consumer = KafkaConsumer(**self._configuration)
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error
        try:
            numbers = consumer.partitions_for_topic(TOPIC)
            if not numbers:
                return None
            incidents: dict[int, Incident] = {}
            for record in self._records(consumer, [TopicPartition(TOPIC, number) for number in numbers], since):
                _follow(incidents, record)
            return sorted(incidents.values(), key=lambda incident: incident.created_at_ms)
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error
        finally:
            consumer.close(autocommit=False)

    @staticmethod
    def _records(
        consumer: KafkaConsumer, partitions: list[TopicPartition], since: datetime
    ) -> Iterator[dict[str, Any]]:
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        starts = consumer.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
        for partition in partitions:
            start = starts.get(partition)
            consumer.seek(partition, start.offset if start else ends[partition])
        idle = 0
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            batches = consumer.poll(timeout_ms=_POLL_MS)
            idle = 0 if batches else idle + 1
            if idle == _IDLE_POLLS:
                raise KafkaUnreachableError(
                    f"{TOPIC} gave no record for {timedelta(milliseconds=_POLL_MS * idle)} before its end"
                )
            for batch in batches.values():
                for message in batch:
                    if message.value:
                        yield json.loads(message.value)


def _follow(incidents: dict[int, Incident], record: dict[str, Any]) -> None:
    if record.get("valueType") != "INCIDENT":
        return
    if record["intent"] == "CREATED":
        value = record["value"]
        incidents[record["key"]] = Incident(
            record["key"], value["bpmnProcessId"], value["elementId"], value["errorMessage"], record["timestamp"]
        )
    elif record["intent"] == "RESOLVED":
        incidents.pop(record["key"], None)
