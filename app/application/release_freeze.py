"""Times in which nothing is released: declared by a person, ended by a person or by their time, passed over by a word that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.application.operations import OperationError


class FreezeRefusedError(OperationError):
    """The freeze cannot be declared or ended as asked; nothing was changed."""


@dataclass(frozen=True)
class Freeze:
    """A freeze that is in force.

    Attributes:
        reason: why nothing is released.
        operator: who said so.
        frozen_at: since when.
        until: when it ends by itself; None when somebody has to end it.
    """

    reason: str
    operator: str
    frozen_at: datetime
    until: datetime | None

    @property
    def words(self) -> str:
        """The freeze in a line for people."""
        until = f"until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else "until somebody ends it"
        return f"{self.reason} ({self.operator}, since {self.frozen_at:%Y-%m-%d %H:%M} UTC, {until})"


def refusal(freeze: Freeze | None, despite: str) -> str:
    """Say why a release may not begin; nothing when it may.

    Args:
        freeze: what is in force.
        despite: why it is released all the same; empty where nobody said so.
    """
    if freeze is None or despite.strip():
        return ""
    return (
        f"releases are frozen: {freeze.words}; wait, end it with cpq-oms-admin release thaw, or release all the same, which goes on record: "
        "-e \"release_despite_freeze='why'\""
    )
