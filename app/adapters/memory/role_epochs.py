"""Epochs of roles in memory: what processes ask and what operators change, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from app.application.colour_flip import RoleState, SeenProcess
from app.application.repair import RepairReason
from app.messaging.colours import Colour, RoleEpoch, RoleProcess
from app.messaging.retry import Unavailable
from app.runtime.clock import Clock

_ALIVE = timedelta(seconds=10)


@dataclass
class MemoryRoleEpochs:
    """See `app.messaging.colours.EpochStore` and `app.application.colour_flip.ColourDesk`.

    Args:
        clock: time of the records.
        is_away: whether nobody answers.
    """

    clock: Clock
    is_away: bool = False
    _states: dict[str, RoleState] = field(default_factory=dict)
    _processes: dict[str, SeenProcess] = field(default_factory=dict)

    async def look(self, process: RoleProcess, held: int | None) -> RoleEpoch:
        if self.is_away:
            raise Unavailable("memory", "away")
        self._processes[process.instance_id] = SeenProcess(
            process.role, process.instance_id, process.colour, process.release_id, held, self.clock.now(), lives=True
        )
        return self._present(process.role)

    async def leave(self, process: RoleProcess) -> None:
        if self.is_away:
            raise Unavailable("memory", "away")
        self._processes.pop(process.instance_id, None)

    async def roles(self) -> Sequence[RoleState]:
        return list(self._states.values())

    async def processes(self) -> Sequence[SeenProcess]:
        now = self.clock.now()
        return [replace(process, lives=now - process.seen_at < _ALIVE) for process in self._processes.values()]

    async def move(self, role: str, colour: Colour, reason: RepairReason) -> RoleEpoch:
        after = RoleEpoch(self._present(role).epoch + 1, colour)
        self._states[role] = RoleState(role, after, self.clock.now(), reason.operator, reason.text)
        return after

    async def hold(self, role: str) -> None:
        """Nothing is under way: a transaction in memory is over at once."""

    def pass_fence(self, role: str, epoch: int | None) -> None:
        """Let a write pass that carries the role's present epoch; raises `Unavailable` for any other."""
        if epoch != (present := self._present(role).epoch):
            raise Unavailable("memory", f"epoch {epoch} of {role} is not held: it is in epoch {present}")

    def _present(self, role: str) -> RoleEpoch:
        state = self._states.get(role)
        return state.present if state else RoleEpoch()
