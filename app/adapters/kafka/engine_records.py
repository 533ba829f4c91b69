"""Reads what the workflow engine exported to its topic: the outside view of instances, jobs and incidents.

The engine's exporter writes every record as JSON. Reading starts at a point in time and ends at the topic's end as it
was when reading began, so it is bounded whatever else is written meanwhile. Synchronous: call it in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from app.adapters.kafka.administration import KafkaUnreachableError
from app.adapters.kafka.connection import KafkaConnection
from app.application.process_versions import EngineInstance, EngineProcess, EngineView

TOPIC = "zeebe"

_TIMEOUT_MS = 5000
_POLL_MS = 500
_IDLE_POLLS = 10


@dataclass(frozen=True)
class Incident:
    """An incident the engine opened and has not resolved."""

    key: int
    process_id: str
    process_instance_key: int
    element_id: str
    job_key: int
    message: str
    created_at_ms: int


class EngineRecords:
    """A reader of its own, without a consumer group: it leaves no trace in the cluster."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._configuration: dict[str, Any] = {
            **connection.options(),
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
        incidents: dict[int, Incident] = {}
        if not self._read(since, lambda record: _follow(incidents, record)):
            return None
        return sorted(incidents.values(), key=lambda incident: incident.created_at_ms)

    def incidents_of(self, process_instance_key: int, since: datetime, until: datetime | None) -> list[Incident]:
        """Incidents of one process instance created since a moment, resolved or not, newest first.

        Reading stops at the first record after `until`, so that it is short however much was exported since then.

        Raises:
            KafkaUnreachableError: the topic could not be read.
        """
        created: dict[int, Incident] = {}

        def follow(record: dict[str, Any]) -> None:
            if record.get("intent") == "CREATED":
                _follow(created, record)

        self._read(since, follow, until)
        own = [incident for incident in created.values() if incident.process_instance_key == process_instance_key]
        return sorted(own, key=lambda incident: -incident.created_at_ms)

    def processes(self) -> EngineView:
        """Every process the engine was given and every instance that lives, as far back as the topic reaches.

        Raises:
            KafkaUnreachableError: the topic is not there or could not be read to its end, so nothing can be said.
        """
        view = EngineView()
        if not self._read(None, lambda record: _follow_processes(view, record)):
            raise KafkaUnreachableError(f"topic {TOPIC} does not exist")
        view.processes.sort(key=lambda process: (process.process_id, process.version))
        return view

    def _read(
        self, since: datetime | None, follow: Callable[[dict[str, Any]], None], until: datetime | None = None
    ) -> bool:
        """Show every record since a moment, or from the beginning; False where the topic does not exist yet."""
        try:
            consumer = KafkaConsumer(**self._configuration, allow_auto_create_topics=False)
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error
        try:
            numbers = consumer.partitions_for_topic(TOPIC)
            if not numbers:
                return False
            for record in self._records(consumer, [TopicPartition(TOPIC, number) for number in numbers], since):
                if until is not None and _time(record) > until:
                    break
                follow(record)
        except (KafkaError, OSError) as error:
            raise KafkaUnreachableError(f"{type(error).__name__}: {error}") from error
        else:
            return True
        finally:
            consumer.close(autocommit=False)

    @staticmethod
    def _records(
        consumer: KafkaConsumer, partitions: list[TopicPartition], since: datetime | None
    ) -> Iterator[dict[str, Any]]:
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        if since is None:
            consumer.seek_to_beginning(*partitions)
        else:
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
            key=record["key"],
            process_id=value["bpmnProcessId"],
            process_instance_key=value["processInstanceKey"],
            element_id=value["elementId"],
            job_key=value["jobKey"],
            message=value["errorMessage"],
            created_at_ms=record["timestamp"],
        )
    elif record["intent"] == "RESOLVED":
        incidents.pop(record["key"], None)


def _follow_processes(view: EngineView, record: dict[str, Any]) -> None:
    if view.since is None or _time(record) < view.since:
        view.since = _time(record)
    value, intent = record.get("value", {}), record.get("intent")
    if record.get("valueType") == "PROCESS" and intent == "CREATED":
        view.processes.append(
            EngineProcess(
                process_id=value["bpmnProcessId"],
                version=value["version"],
                key=value["processDefinitionKey"],
                resource=value["resourceName"],
                content_sha256=hashlib.sha256(base64.b64decode(value["resource"])).hexdigest(),
                deployed_at=_time(record),
            )
        )
    elif record.get("valueType") == "PROCESS_INSTANCE" and value.get("bpmnElementType") == "PROCESS":
        if intent == "ELEMENT_ACTIVATED":
            view.instances[value["processInstanceKey"]] = EngineInstance(
                value["processInstanceKey"], value["bpmnProcessId"], value["version"], _time(record)
            )
        elif intent in {"ELEMENT_COMPLETED", "ELEMENT_TERMINATED"}:
            view.instances.pop(value["processInstanceKey"], None)


def _time(record: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(record["timestamp"] / 1000, UTC)
