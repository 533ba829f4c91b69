"""A workflow engine in memory: one instance per message id, and whatever trouble it is told to make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.application.ports import EngineRefused, EngineUnavailable


class MemoryWorkflowEngine:
    """See `app.application.ports.WorkflowEngine`.

    Attributes:
        instances: variables of every instance, by message id.
        is_away: nothing is accepted.
        is_refusing: every message is answered as wrong.
        lost_replies: so many of the next messages are accepted, and their senders not told.
    """

    def __init__(self) -> None:
        self.instances: dict[str, Mapping[str, Any]] = {}
        self.is_away = False
        self.is_refusing = False
        self.lost_replies = 0

    async def start(
        self, process_id: str, *, correlation_key: str, message_id: str, variables: Mapping[str, Any]
    ) -> bool:
        if self.is_away:
            raise EngineUnavailable("away")
        if self.is_refusing:
            raise EngineRefused("refused")
        is_new = message_id not in self.instances
        self.instances.setdefault(message_id, dict(variables))
        if self.lost_replies:
            self.lost_replies -= 1
            raise EngineUnavailable("no answer in time")
        return is_new
