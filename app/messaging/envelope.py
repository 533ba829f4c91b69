"""An event as it travels: identity, order within its aggregate, where it goes; the payload stays opaque here."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

SHARDS = 16


@dataclass(frozen=True, slots=True)
class Envelope:
    """One committed fact.

    `aggregate_seq` counts 1, 2, 3 … without gaps per aggregate and is assigned in the business transaction;
    `payload` is the JSON text of the event's schema; `traceparent` is the W3C trace context or None.
    """

    event_id: UUID
    tenant_id: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_seq: int
    event_type: str
    topic: str
    partition_key: str
    payload: str
    occurred_at: datetime
    traceparent: str | None = None

    @property
    def shard(self) -> int:
        """The relay shard, 0 to 15, a pure function of the aggregate so that its events never change hands apart."""
        return zlib.crc32(self.aggregate_id.bytes) % SHARDS
