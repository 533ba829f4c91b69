"""What every topic must look like, whatever it carries: names, owners, keys, retention, copies, dead letters.

Each rule answers with lines `topics/<file>: field: what is wrong`, so that one look at the file is enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.contracts.loader import Topic

DEAD_LETTERS = ".dlq"
"""What the topic of a source's dead letters adds to the source's name."""

EVENT_FIELDS = ("eventId", "eventType", "tenantId", "aggregateSeq", "occurredAt")
"""What every event says of itself, besides its aggregate's own identifier."""

_EVENTS_NAME = re.compile(r"[a-z]+\.(?P<aggregate>[a-z]+(-[a-z]+)*)\.events\.v(?P<version>[1-9][0-9]*)")
_MILLISECOND = timedelta(milliseconds=1)
# Shorter than a long weekend's outage loses events; longer than this, the outbox is the archive and not Kafka.
_RETENTION = {
    "events": (timedelta(days=7), timedelta(days=90)),
    "dead-letters": (timedelta(days=14), timedelta(days=180)),
    "engine-records": (timedelta(days=1), timedelta(days=30)),
}
_MOST_PARTITIONS = 48
_LEAST_INSYNC = 2


def topic_problems(topics: Mapping[str, Topic], schemas: Path) -> Iterator[str]:
    """Hold all topics against the rules.

    Args:
        topics: by name, each sound by itself.
        schemas: the folder of the event schemas.
    """
    for topic in topics.values():
        problems = [*_common_problems(topic)]
        if topic.kind == "events":
            problems += [*_event_problems(topic, schemas)]
            if topic.consumer_groups and topic.name + DEAD_LETTERS not in topics:
                problems.append(
                    f"consumer_groups: there is no topic {topic.name}{DEAD_LETTERS} for what they cannot handle"
                )
        elif topic.kind == "dead-letters":
            problems += _dead_letter_problems(topic, topics)
        yield from (f"topics/{topic.name}.yml: {problem}" for problem in problems)


def _common_problems(topic: Topic) -> Iterator[str]:
    retention = topic.retention_ms * _MILLISECOND
    shortest, longest = _RETENTION[topic.kind]
    if not shortest <= retention <= longest:
        yield f"retention_ms: {retention.days} days, for {topic.kind} {shortest.days} to {longest.days} are allowed"
    if topic.partitions > _MOST_PARTITIONS:
        yield f"partitions: {topic.partitions}, more than {_MOST_PARTITIONS} need another reason than growth"
    if not _LEAST_INSYNC <= topic.min_insync < topic.replication:
        yield (
            f"min_insync: {topic.min_insync} of {topic.replication} copies; at least {_LEAST_INSYNC} so that a lost broker "
            "loses nothing acknowledged, and fewer than all so that it stops nobody"
        )
    if not topic.producers:
        yield "producers: nobody may write it"


def _event_problems(topic: Topic, schemas: Path) -> Iterator[str]:
    match = _EVENTS_NAME.fullmatch(topic.name)
    if match is None:
        yield "name: events are named <domain>.<aggregate>.events.v<N>"
        return
    if topic.cleanup_policy != "delete":
        yield "cleanup_policy: compaction would keep only the last event of an aggregate"
    if topic.compatibility != "backward":
        yield "compatibility: a reader of events must also read what lies in the topic already: backward"
    thresholds = topic.alert_thresholds
    if thresholds is None or thresholds.consumer_lag_records is None or thresholds.consumer_lag_age is None:
        yield "alert_thresholds: consumer_lag_records and consumer_lag_age are needed"
    words = match["aggregate"].split("-")
    key = words[0] + "".join(word.capitalize() for word in words[1:]) + "Id"
    if topic.partition_key != key:
        yield f"partition_key: is {topic.partition_key!r}; the aggregate's own id, {key!r}, keeps its events in order"
    expected = f"{'_'.join(words)}.v{match['version']}.schema.json"
    if topic.schema_file != expected:
        yield f"schema: is {topic.schema_file!r}, the name asks for {expected!r}"
    else:
        yield from _schema_problems(schemas / expected, key)


def _schema_problems(path: Path, key: str) -> Iterator[str]:
    try:
        schema: Any = json.loads(path.read_text(encoding="utf-8"))
        required: Iterable[str] = schema["required"]
        properties: Mapping[str, Any] = schema["properties"]
    except OSError:
        yield f"schema: events/{path.name} does not exist"
        return
    except (ValueError, KeyError, TypeError):
        yield f"schema: events/{path.name} is no JSON Schema of an object with properties and required ones"
        return
    missing = [name for name in (*EVENT_FIELDS, key) if name not in required or name not in properties]
    if missing:
        yield f"schema: events/{path.name} does not require {', '.join(missing)}"
    if schema.get("additionalProperties", True) is not True:
        yield f"schema: events/{path.name} forbids other properties: no field could ever be added"


def _dead_letter_problems(topic: Topic, topics: Mapping[str, Topic]) -> Iterator[str]:
    source = topics.get(topic.name.removesuffix(DEAD_LETTERS))
    if not topic.name.endswith(DEAD_LETTERS) or source is None or source.kind != "events":
        yield f"name: dead letters are named <topic of events>{DEAD_LETTERS}"
        return
    if not source.consumer_groups:
        yield f"name: {source.name} has no consumer group that could fail"
    if topic.partition_key != source.partition_key:
        yield f"partition_key: is {topic.partition_key!r}, that of {source.name} is {source.partition_key!r}"
    if topic.retention_ms < source.retention_ms:
        yield f"retention_ms: shorter than that of {source.name}: a dead letter must outlive its event"
    if topic.alert_thresholds is None or topic.alert_thresholds.dead_letters is None:
        yield "alert_thresholds: dead_letters is needed"
