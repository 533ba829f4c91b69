"""Who may go on with a release that is under way: a living holder keeps it, a dead one's run can be taken over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Holder:
    """Who asks for the release.

    Attributes:
        name: user@host:process:start of the playbook's process, so that a later one on the same host can tell it died.
        operator: the person.
        living: names of all playbooks that run on the asking host now.
        stale_after: from which silence on any holder counts as dead.
    """

    name: str
    operator: str
    living: frozenset[str]
    stale_after: timedelta

    def sees_dead(self, holder: str) -> bool:
        """Tell whether `holder` was a playbook of this host and runs no more."""
        return _host(holder) == _host(self.name) and holder not in self.living


@dataclass(frozen=True)
class RunningRelease:
    """The release that is under way."""

    release_id: str
    holder: str
    started_at: datetime
    silent_seconds: float


@dataclass(frozen=True)
class Takeover:
    """The answer, with the reason in words."""

    allowed: bool
    reason: str


def takeover(running: RunningRelease, asking: Holder) -> Takeover:
    """Decide whether `asking` may take the running release.

    The holder itself may always go on; another may when the holder's process is known to be gone, or when nothing was
    heard of it for longer than any step takes.
    """
    if running.holder == asking.name:
        return Takeover(allowed=True, reason="the same playbook goes on")
    if asking.sees_dead(running.holder):
        return Takeover(allowed=True, reason=f"the process of {running.holder} is gone")
    if running.silent_seconds > asking.stale_after.total_seconds():
        return Takeover(
            allowed=True, reason=f"nothing was heard of {running.holder} for {running.silent_seconds:.0f} s"
        )
    return Takeover(
        allowed=False,
        reason=(
            f"release {running.release_id} is under way, held by {running.holder} since {running.started_at:%H:%M:%S} UTC, "
            f"last heard of {running.silent_seconds:.0f} s ago: wait for it, or end its playbook and run the same command again"
        ),
    )


def _host(holder: str) -> str:
    return holder.partition("@")[2].partition(":")[0]
