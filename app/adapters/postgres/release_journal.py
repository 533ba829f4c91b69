"""The journal of releases: one run at a time, who holds it, which timers it paused, each step with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.application.operations import OperationError
from app.application.release_run import Holder, RunningRelease, takeover

_SQL = NamedBlocks("release_journal")

StepState = Literal["running", "succeeded", "failed"]


class ReleaseRefusedError(OperationError):
    """Another release is under way; the message names its holder and what to do."""


class NoReleaseError(OperationError):
    """No release is under way."""


@dataclass(frozen=True)
class Begun:
    """The run a holder may now write to.

    Attributes:
        taken_over: the dead holder whose run goes on or was closed, or None.
        resumed: whether an unfinished run of the same release goes on.
        paused_timers: timers that still wait to be resumed, from this run or an earlier one.
        is_proven: whether what runs now was proven: the newest run before this one came to a good end.
    """

    run_id: UUID
    taken_over: str | None
    resumed: bool
    paused_timers: tuple[str, ...]
    is_proven: bool


@dataclass(frozen=True)
class Run:
    """A run as the journal has it."""

    run_id: UUID
    release_id: str
    operator: str
    holder: str
    state: str
    paused_timers: tuple[str, ...]
    failure: str | None
    started_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None


class ReleaseJournal:
    """Rows of cpq.release_run and cpq.release_step."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def exists(self) -> bool:
        """Tell whether there is a journal: not before the first migration."""
        return await has_table(self._connection, "release_run")

    async def begin(self, run_id: UUID, release_id: str, holder: Holder) -> Begun:
        """Open a run, or go on with the one a dead holder left.

        Raises:
            ReleaseRefusedError: a living holder has the journal.
        """
        try:
            async with self._connection.transaction():
                return await self._begin(run_id, release_id, holder)
        except psycopg.errors.UniqueViolation as error:
            raise ReleaseRefusedError(
                "another release began at the same moment: see cpq-oms-admin release status"
            ) from error

    async def _begin(self, run_id: UUID, release_id: str, holder: Holder) -> Begun:
        taken_over = None
        row = await self._row("current", {})
        if row is not None:
            running = RunningRelease(row["release_id"], row["holder"], row["started_at"], row["silent_seconds"])
            decision = takeover(running, holder)
            if not decision.allowed:
                raise ReleaseRefusedError(decision.reason)
            taken_over = row["holder"]
            if row["release_id"] == release_id:
                values = {"run_id": row["run_id"], "holder": holder.name, "operator": holder.operator}
                await self._connection.execute(_SQL["take_over"], values)
                timers = tuple(row["paused_timers"])
                return Begun(row["run_id"], taken_over, resumed=True, paused_timers=timers, is_proven=False)
            failure = f"taken over by {holder.name} for {release_id}: {decision.reason}"
            await self._connection.execute(
                _SQL["finish"], {"run_id": row["run_id"], "state": "failed", "failure": failure}
            )
        former = await self.latest()
        is_proven = former is None or former.state == "succeeded"
        values = {"run_id": run_id, "release_id": release_id, "operator": holder.operator, "holder": holder.name}
        await self._connection.execute(_SQL["open"], values)
        await self._connection.execute(_SQL["forget_timers"])
        latest = await self.latest()
        timers = latest.paused_timers if latest else ()
        return Begun(run_id, taken_over, resumed=False, paused_timers=timers, is_proven=is_proven)

    async def step(self, run_id: UUID, step: str, state: StepState, evidence: dict[str, Any] | None) -> None:
        """Write a step's state."""
        values = {"run_id": run_id, "step": step, "state": state}
        values["evidence"] = Jsonb(evidence) if evidence is not None else None
        await self._connection.execute(_SQL["step"], values)

    async def held_by(self, holder: str) -> UUID:
        """Return the run that the holder has, and note that the holder lives.

        Raises:
            NoReleaseError: no run is under way, or another holder has it: whoever asked must stop.
        """
        row = await self._row("heartbeat", {"holder": holder})
        if row is None:
            raise NoReleaseError(f"no release is held by {holder}: cpq-oms-admin release status says who has it")
        run_id: UUID = row["run_id"]
        return run_id

    async def set_paused_timers(self, run_id: UUID, timers: Sequence[str]) -> None:
        """Record which timers wait to be resumed."""
        await self._connection.execute(_SQL["set_timers"], {"run_id": run_id, "timers": sorted(timers)})

    async def finish(self, run_id: UUID, state: Literal["succeeded", "failed"], failure: str | None) -> None:
        """Close the run."""
        await self._connection.execute(_SQL["finish"], {"run_id": run_id, "state": state, "failure": failure})

    async def latest(self) -> Run | None:
        """The newest run."""
        row = await self._row("latest", {})
        return Run(**{**row, "paused_timers": tuple(row["paused_timers"])}) if row else None

    async def steps(self, run_id: UUID) -> list[dict[str, Any]]:
        """The steps of a run, oldest first."""
        return await (await self._connection.execute(_SQL["steps"], {"run_id": run_id})).fetchall()

    async def _row(self, block: str, values: dict[str, Any]) -> dict[str, Any] | None:
        return await (await self._connection.execute(_SQL[block], values)).fetchone()
