"""An inbox in a set, for tests of what groups do with events they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from app.messaging.inbox import InboxEntry


@dataclass
class ListedInbox:
    """A unit of work with an inbox; what else a group writes comes with the class that inherits."""

    seen: set[UUID] = field(default_factory=set)

    @property
    def inbox(self) -> Self:
        return self

    async def act_for(self, tenant_id: str) -> None: ...

    async def add(self, entries: Sequence[InboxEntry]) -> set[UUID]:
        fresh = {entry.event_id for entry in entries} - self.seen
        self.seen |= fresh
        return fresh
