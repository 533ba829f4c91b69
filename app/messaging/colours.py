"""Two colours of a role may be up, and one of them works: which, the role's epoch says, and the database refuses the others.

A process asks every few seconds, in its own loop, which also shows that it lives. It takes an epoch only between two units
of work, and everything that it writes in one carries the epoch taken before it. So a process that was stopped in the
middle of its work cannot end it under an epoch in which somebody else has worked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from app.messaging.retry import Unavailable
from app.runtime.clock import Clock
from app.runtime.logging import get_logger

LOOK_INTERVAL = 2.0
"""Seconds between two looks: a process that has not looked for five of them is taken for dead."""

_log = get_logger(__name__)


class Colour(StrEnum):
    """A set of processes of one release; processes that are told none are a set of their own."""

    NONE = "none"
    BLUE = "blue"
    GREEN = "green"


@dataclass(frozen=True, slots=True)
class RoleEpoch:
    """The epoch of a role and the colour that works in it; a role that never changed its colour is in epoch 0 of none."""

    epoch: int = 0
    colour: Colour = Colour.NONE


@dataclass(frozen=True, slots=True)
class RoleProcess:
    """A process as operators see it.

    Args:
        instance_id: its name; no two processes share one, whatever their colours.
        role: `relay`, `consumer@GROUP` or `worker@GROUP`.
        colour: the set that it belongs to.
        release_id: the release that it runs.
    """

    instance_id: str
    role: str
    colour: Colour
    release_id: str


@dataclass
class HeldEpoch:
    """The epoch under which a process writes; None while it stands by, when nothing that it writes is accepted."""

    epoch: int | None = 0


class EpochStore(Protocol):
    """Where epochs are; every method raises `Unavailable` when it cannot be asked."""

    async def look(self, process: RoleProcess, held: int | None) -> RoleEpoch:
        """Say that the process lives and what it holds, and return the present epoch of its role."""
        ...

    async def leave(self, process: RoleProcess) -> None:
        """Say that the process ends: nobody counts on it any more."""
        ...


class StandingObserver(Protocol):
    """Is told what a process holds: metrics, never decisions."""

    def standing(self, epoch: int, *, works: bool) -> None:
        """Show the role's epoch, and whether the process works in it or stands by."""
        ...


class Standing:
    """Whether a process may work.

    Args:
        store: where epochs are.
        process: whose standing it is.
        held: what the process's connections say they hold.
        clock: monotonic time.
        observer: metrics.
        look_interval: seconds between two looks.
    """

    def __init__(
        self,
        store: EpochStore,
        process: RoleProcess,
        held: HeldEpoch,
        clock: Clock,
        observer: StandingObserver,
        *,
        look_interval: float = LOOK_INTERVAL,
    ) -> None:
        self._store = store
        self._process = process
        self._held = held
        self._clock = clock
        self._observer = observer
        self._look_interval = look_interval
        self._present = RoleEpoch()
        self._look_at = -math.inf

    async def __aenter__(self) -> Self:
        """Look for the first time.

        Raises:
            Unavailable: the database cannot be asked.
        """
        await self._ask()
        self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell that the process ends."""
        try:
            await self._store.leave(self._process)
        except Unavailable as unavailable:
            _log.warning("role_not_left", reason=unavailable.reason)

    async def may_work(self) -> bool:
        """Whether the next unit of work may begin; for a process that has one at a time, and none now."""
        await self.look()
        return self.take()

    async def look(self) -> None:
        """Ask when it is time to. While nobody answers the last answer counts: the database judges every write anyway."""
        if self.look_in > 0:
            return
        try:
            await self._ask()
        except Unavailable as error:
            self._look_at = self._clock.monotonic() + self._look_interval
            _log.warning("epoch_unknown", role=self._process.role, reason=error.reason)

    def take(self) -> bool:
        """Take the present epoch when it is our colour's, else none, and return whether the process may work. Not within a unit of work."""
        taken = self._present.epoch if self._present.colour is self._process.colour else None
        if taken != self._held.epoch:
            _log.info(
                "epoch_left" if taken is None else "epoch_taken",
                role=self._process.role,
                own_colour=self._process.colour,
                epoch=self._present.epoch,
                colour=self._present.colour,
                former=self._held.epoch,
            )
            # Shown at once, not when the next look is due.
            self.doubt()
        self._held.epoch = taken
        self._observer.standing(self._present.epoch, works=taken is not None)
        return taken is not None

    def doubt(self) -> None:
        """Look at the next opportunity: something was refused."""
        self._look_at = -math.inf

    @property
    def is_over(self) -> bool:
        """Whether the epoch that the process holds is known to be over."""
        return self._held.epoch != self._present.epoch

    @property
    def look_in(self) -> float:
        """Seconds until the next look is due."""
        return max(0.0, self._look_at - self._clock.monotonic())

    @property
    def status(self) -> str:
        """One line on whom the process stands by for."""
        works = (
            "processes without a colour work"
            if self._present.colour is Colour.NONE
            else f"{self._present.colour} works"
        )
        return f"standing by: {works}, epoch {self._present.epoch}"

    async def _ask(self) -> None:
        self._present = await self._store.look(self._process, self._held.epoch)
        self._look_at = self._clock.monotonic() + self._look_interval
