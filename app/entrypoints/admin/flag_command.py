"""What the commands that change a flag have in common: one audited transaction over the declared flags."""

from __future__ import annotations

from app.adapters.postgres.feature_flags import PostgresFlagStore
from app.application.flag_changes import FlagChanges
from app.application.repair import RepairReason
from app.contracts.loader import load_feature_flags
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


def flag_changes(session: Session, store: PostgresFlagStore) -> FlagChanges:
    """The use cases on the contract's flags and this environment's defaults."""
    return FlagChanges(store, load_feature_flags(), session.settings.feature_flag_defaults, UuidV7Ids())


async def change_flag(
    session: Session, flag: str, tenant_id: str | None, reason: RepairReason, *, value: bool | None
) -> Outcome:
    """Make or request a change, as `app.application.flag_changes.FlagChanges.change` says."""
    command = "flags unset" if value is None else "flags set"
    async with session.audited_transaction(command, reason.text) as (connection, detail):
        changes = flag_changes(session, PostgresFlagStore(connection))
        change, is_in_force = await changes.change(flag, tenant_id, reason, value=value)
        detail["change_id"], detail["change"], detail["in_force"] = str(change.change_id), change.sentence, is_in_force
    if is_in_force:
        return applied([change.sentence], {"change_id": str(change.change_id)})
    return Outcome(
        data={
            "change_id": str(change.change_id),
            "waits": f"{change.sentence}: another person must run flags approve {change.change_id}",
        }
    )
