"""Settings of cpq-oms-consumer, one process per consumer group."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from annotated_types import Le
from pydantic import Field

from app.settings.declaration import INFRASTRUCTURE, POLICY
from app.settings.shared import ColouredSettings, DatabaseSettings, Duration, KafkaSettings, TracedSettings


class ConsumerSettings(TracedSettings, ColouredSettings, DatabaseSettings, KafkaSettings):
    """Which group this process is a member of, what it reads from and what it writes to.

    `consumer_batch_size` is the most records of one poll, and so of one transaction. `consumer_export_interval` is how long
    a record may wait for its file; `state_directory` is systemd's STATE_DIRECTORY, where the files go.
    """

    consumer_group: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$"), INFRASTRUCTURE]
    consumer_batch_size: Annotated[int, Field(ge=1, le=1000), POLICY]
    consumer_export_interval: Annotated[Duration, Le(timedelta(hours=1)), POLICY]
    state_directory: Annotated[str, Field(pattern="^/"), INFRASTRUCTURE]
