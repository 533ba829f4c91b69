"""Which colour of a role works is decided by an operator: never for a colour of which nobody is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.application.operations import OperationError
from app.application.repair import RepairReason
from app.messaging.colours import Colour, RoleEpoch


class FlipRefusedError(OperationError):
    """The colour may not take the role over as it was asked for; nothing was changed."""


class EpochBusyError(Exception):
    """Transactions of the present epoch did not end in time.

    Attributes:
        holders: their sessions, `INSTANCE/RELEASE`.
    """

    def __init__(self, holders: Sequence[str]) -> None:
        super().__init__(", ".join(holders))
        self.holders = holders


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process of a role; `held_epoch` is None while it stands by, and one that does not live may be frozen or dead."""

    role: str
    instance_id: str
    colour: Colour
    release_id: str
    held_epoch: int | None
    seen_at: datetime
    lives: bool


@dataclass(frozen=True, slots=True)
class RoleState:
    """The epoch of a role that has changed its colour at least once, and who changed it last."""

    role: str
    present: RoleEpoch
    changed_at: datetime
    changed_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Flip:
    """One role's change of colour."""

    role: str
    before: RoleEpoch
    after: RoleEpoch

    @property
    def sentence(self) -> str:
        """The change in words."""
        return (
            f"{self.role}: {self.before.colour} to {self.after.colour}, epoch {self.before.epoch} to {self.after.epoch}"
        )


class ColourDesk(Protocol):
    """Epochs and processes of all roles: one transaction, opened by the caller."""

    async def roles(self) -> Sequence[RoleState]:
        """Roles that ever changed their colour."""
        ...

    async def processes(self) -> Sequence[SeenProcess]:
        """Every process that was seen in the last day."""
        ...

    async def hold(self, role: str) -> None:
        """Wait for the transactions of a role's present epoch, and keep new ones waiting until this one ends.

        Raises:
            EpochBusyError: some did not end in time.
        """
        ...

    async def move(self, role: str, colour: Colour, reason: RepairReason) -> RoleEpoch:
        """Begin the next epoch of a role that is held."""
        ...


async def planned_flips(desk: ColourDesk, roles: Sequence[str], to: Colour) -> list[Flip]:
    """Return what changes for the roles to work in a colour; those that do already are left out.

    Raises:
        FlipRefusedError: of some role no process of that colour lives; each is named.
    """
    present = {state.role: state.present for state in await desk.roles()}
    living = {process.role for process in await desk.processes() if process.colour is to and process.lives}
    changing = {role: present.get(role, RoleEpoch()) for role in sorted(roles)}
    changing = {role: before for role, before in changing.items() if before.colour is not to}
    if dead := [role for role in changing if role not in living]:
        of_colour = "without a colour" if to is Colour.NONE else f"of {to}"
        raise FlipRefusedError(
            *(f"{role}: no live process {of_colour} is registered; start one before" for role in dead)
        )
    return [Flip(role, before, RoleEpoch(before.epoch + 1, to)) for role, before in changing.items()]


async def flip(desk: ColourDesk, roles: Sequence[str], to: Colour, reason: RepairReason) -> list[Flip]:
    """Let a colour work in the place of another, for all of the roles or for none, and return what changed.

    Raises:
        FlipRefusedError: as `planned_flips`; or a session of the former colour does not end its transaction.
    """
    for role in sorted(roles):
        try:
            await desk.hold(role)
        except EpochBusyError as busy:
            raise FlipRefusedError(
                f"{role}: a transaction of {', '.join(busy.holders) or 'its processes'} does not end; "
                "the server ends one that stands still after twice the DB_STATEMENT_TIMEOUT of its unit: try again"
            ) from busy
    planned = await planned_flips(desk, roles, to)
    return [Flip(each.role, each.before, await desk.move(each.role, to, reason)) for each in planned]
