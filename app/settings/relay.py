"""Settings of cpq-oms-relay."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from annotated_types import Le
from pydantic import AfterValidator, Field

from app.settings.declaration import POLICY
from app.settings.shared import ColouredSettings, DatabaseSettings, Duration, KafkaSettings, TracedSettings

_SHORTEST_LEASE = timedelta(seconds=10)


def _long_enough(value: timedelta) -> timedelta:
    if value < _SHORTEST_LEASE:
        raise ValueError("expected at least PT10S: a fifth of it is the time one send may take")
    return value


class RelaySettings(TracedSettings, ColouredSettings, DatabaseSettings, KafkaSettings):
    """Where the outbox is, where its events go, and the pace.

    `relay_poll_interval` is the net under the wake-up by notification. `relay_lease_duration` is how long the shards of
    a relay that died rest until another takes them.
    """

    relay_batch_size: Annotated[int, Field(ge=1, le=1000), POLICY]
    relay_poll_interval: Annotated[Duration, Le(timedelta(minutes=1)), POLICY]
    relay_lease_duration: Annotated[Duration, AfterValidator(_long_enough), Le(timedelta(minutes=10)), POLICY]
