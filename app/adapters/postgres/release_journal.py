"""The journal of releases: one run at a time, who holds it, which timers it paused, each step with its evidence.

What is written is put on record in the same transaction (`app.application.release_record`): the steps say how a run stands, the record what was
done, in order, and nothing of it changes any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.release_freezes import ReleaseFreezes
from app.application.operations import OperationError
from app.application.release_freeze import refusal
from app.application.release_record import NOTHING, Act, Entry, Head, Place, sealed
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
        entries: what was put on record behind what the asking machine has.
    """

    run_id: UUID
    taken_over: str | None
    resumed: bool
    paused_timers: tuple[str, ...]
    is_proven: bool
    entries: tuple[Entry, ...] = ()


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
    """Rows of cpq.release_run, cpq.release_step and cpq.release_record."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def exists(self) -> bool:
        """Tell whether there is a journal: not before the first migration."""
        return await has_table(self._connection, "release_run")

    async def begin(
        self, run_id: UUID, release_id: str, holder: Holder, known: Head = NOTHING, despite: str = ""
    ) -> Begun:
        """Open a run, or go on with the one a dead holder left.

        Args:
            run_id: the new run's, if there is one.
            release_id: the release that is to be.
            holder: who asks.
            known: where the copy of the record ends that the asking machine keeps.
            despite: why it begins although releases are frozen; it goes on record.

        Raises:
            ReleaseRefusedError: a living holder has the journal, releases are frozen, or the copy has what the record has not.
        """
        try:
            async with self._connection.transaction():
                await self._hold_to(known)
                freeze = await ReleaseFreezes(self._connection).in_force()
                begun = await self._begin(run_id, release_id, holder)
                # One that was under way is better finished than left.
                if not begun.resumed and (reason := refusal(freeze, despite)):
                    raise ReleaseRefusedError(reason)
                state = "resumed" if begun.resumed else "begun"
                await self._record(
                    begun.run_id,
                    "release",
                    state,
                    detail=f"taken over from {begun.taken_over}" if begun.taken_over else None,
                )
                if freeze is not None and despite:
                    detail = f"releases are frozen: {freeze.words}; released all the same: {despite}"
                    await self._record(begun.run_id, "override", "succeeded", detail=detail)
                return replace(begun, entries=tuple(await self.record(known.sequence)))
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

    async def step(
        self, run_id: UUID, step: str, state: StepState, evidence: dict[str, Any] | None, places: Sequence[Place] = ()
    ) -> list[Entry]:
        """Write a step's state, and put on record what it did to which host; return what was put on record."""
        values = {"run_id": run_id, "step": step, "state": state}
        values["evidence"] = Jsonb(evidence) if evidence is not None else None
        async with self._connection.transaction():
            await self._connection.execute(_SQL["step"], values)
            return await self._record(run_id, step, state, evidence=evidence, places=places)

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

    async def finish(self, run_id: UUID, state: Literal["succeeded", "failed"], failure: str | None) -> list[Entry]:
        """Close the run; return what was put on record."""
        async with self._connection.transaction():
            await self._connection.execute(_SQL["finish"], {"run_id": run_id, "state": state, "failure": failure})
            return await self._record(run_id, "release", state, detail=failure)

    async def latest(self) -> Run | None:
        """The newest run."""
        row = await self._row("latest", {})
        return Run(**{**row, "paused_timers": tuple(row["paused_timers"])}) if row else None

    async def steps(self, run_id: UUID) -> list[dict[str, Any]]:
        """The steps of a run, oldest first."""
        return await (await self._connection.execute(_SQL["steps"], {"run_id": run_id})).fetchall()

    async def runs(self, limit: int) -> list[dict[str, Any]]:
        """The newest runs, newest first."""
        return await (await self._connection.execute(_SQL["runs"], {"limit": limit})).fetchall()

    async def record(self, after: int = 0) -> list[Entry]:
        """The record behind an entry, in order; empty before the migration that brings it."""
        if not await self._has_record():
            return []
        rows = await (await self._connection.execute(_SQL["record"], {"after": after})).fetchall()
        return [Entry(**row) for row in rows]

    async def evidence(self) -> dict[tuple[str, str], Any]:
        """What shows each step, by run and step."""
        rows = await (await self._connection.execute(_SQL["evidence"])).fetchall()
        return {(str(row["run_id"]), row["step"]): row["evidence"] for row in rows}

    async def _hold_to(self, known: Head) -> None:
        if not known.sequence:
            return
        row = await self._row("record_at", {"sequence": known.sequence}) if await self._has_record() else None
        if row is None or row["hash"] != known.hash:
            found = "has another one" if row else "ends before it"
            raise ReleaseRefusedError(
                f"this machine's copy of the record of releases has entry {known.sequence}, and the database {found}: find out what happened to "
                "the database; where it was restored, move the copy away and keep it"
            )

    async def _record(
        self,
        run_id: UUID,
        step: str,
        state: str,
        *,
        detail: str | None = None,
        evidence: Any = None,
        places: Sequence[Place] = (),
    ) -> list[Entry]:
        """Seal what was done, in the transaction that did it. Before the migration that brings the record there is none."""
        if not await self._has_record():
            return []
        await self._connection.execute(_SQL["hold_record"])
        end = await self._row("record_end", {})
        run = await self._row("run", {"run_id": run_id})
        if end is None or run is None:
            raise LookupError(f"run {run_id} is gone")
        acts = [
            Act(**run, step=step, state=state, at=end["at"], place=place, detail=detail, evidence=evidence)
            for place in (places or (None,))
        ]
        entries = sealed(acts, Head(end["sequence"], end["hash"]) if end["sequence"] else NOTHING)
        for entry in entries:
            values = {"sequence": entry.sequence, "run_id": run_id, "body": entry.body, "hash": entry.hash}
            await self._connection.execute(_SQL["append_record"], values)
        return entries

    async def _has_record(self) -> bool:
        return await has_table(self._connection, "release_record")

    async def _row(self, block: str, values: dict[str, Any]) -> dict[str, Any] | None:
        return await (await self._connection.execute(_SQL[block], values)).fetchone()
