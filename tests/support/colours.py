"""A process of a role, an operator who lets colours work, and no database."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.adapters.memory.role_epochs import MemoryRoleEpochs
from app.application.repair import RepairReason
from app.messaging.colours import LOOK_INTERVAL, Colour, HeldEpoch, RoleProcess, Standing
from app.runtime.clock import Clock

REASON = RepairReason("tester", "the other colour takes over, TEST-1")


@dataclass
class Shown:
    """What was shown of a standing."""

    works: bool = False
    epoch: int = 0

    def standing(self, epoch: int, *, works: bool) -> None:
        self.epoch, self.works = epoch, works


@dataclass
class ColouredProcess:
    """One process; its writes carry what it holds."""

    clock: Clock
    colour: Colour = Colour.NONE
    role: str = "relay"
    name: str = "relay-1"
    held: HeldEpoch = field(default_factory=HeldEpoch)
    shown: Shown = field(default_factory=Shown)
    epochs: MemoryRoleEpochs | None = None
    look_interval: float = LOOK_INTERVAL

    def __post_init__(self) -> None:
        self.rows = self.epochs or MemoryRoleEpochs(self.clock)
        process = RoleProcess(self.name, self.role, self.colour, "release-1")
        self.standing = Standing(
            self.rows, process, self.held, self.clock, self.shown, look_interval=self.look_interval
        )

    async def flip(self, to: Colour) -> None:
        """Let a colour work."""
        await self.rows.move(self.role, to, REASON)

    def write(self) -> None:
        """Write under the held epoch; raises Unavailable when it is over."""
        self.rows.pass_fence(self.role, self.held.epoch)
