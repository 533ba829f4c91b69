"""The declared event schemas as checks of a payload, each compiled once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastjsonschema
import msgspec

from app.contracts.loader import DIRECTORY, load_topics
from app.messaging.envelope import Envelope


@dataclass(frozen=True, slots=True)
class _Judge:
    check: Callable[[Any], Any]
    key: str


class SchemaContract:
    """See `app.messaging.outbox.PayloadContract`: the schema of each topic, and that payload and envelope agree.

    Raises:
        ContractError: a topic file is wrong.
        OSError: a schema is not there.
    """

    def __init__(self, directory: Path = DIRECTORY) -> None:
        content = hashlib.sha256()
        self._judges: dict[str, _Judge] = {}
        for topic in load_topics(directory).values():
            if topic.kind != "events" or topic.schema_file is None or topic.partition_key is None:
                continue
            schema = (directory / "events" / topic.schema_file).read_text(encoding="utf-8")
            content.update(f"{topic.name}\0{topic.partition_key}\0{schema}\0".encode())
            self._judges[topic.name] = _Judge(fastjsonschema.compile(json.loads(schema)), topic.partition_key)
        self._version = content.hexdigest()

    @property
    def version(self) -> str:
        return self._version

    def refusal(self, envelope: Envelope) -> str | None:
        judge = self._judges.get(envelope.topic)
        if judge is None:
            return None  # a later release may have declared the topic; the broker knows whether it exists
        try:
            event = msgspec.json.decode(envelope.payload)
        except msgspec.DecodeError:
            return "the payload is not JSON"
        try:
            judge.check(event)
        except fastjsonschema.JsonSchemaValueException as error:
            return f"the payload does not fit its schema: {error.message}"
        said = {
            "eventId": str(envelope.event_id),
            "eventType": envelope.event_type,
            "tenantId": envelope.tenant_id,
            "aggregateSeq": envelope.aggregate_seq,
            judge.key: envelope.partition_key,
        }
        different = sorted(name for name, value in said.items() if event[name] != value)
        return f"payload and envelope differ in {', '.join(different)}" if different else None
