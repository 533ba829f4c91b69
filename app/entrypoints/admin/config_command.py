"""What the commands that change a setting have in common: one audited transaction."""

from __future__ import annotations

from app.adapters.postgres.configuration_store import PostgresConfigurationStore
from app.application.configuration import change_setting
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


async def change(session: Session, name: str, value: str | None, unit: str | None, reason: RepairReason) -> Outcome:
    """Make a change, as `app.application.configuration.change_setting` says."""
    command = "config unset" if value is None else "config set"
    async with session.audited_transaction(command, reason.text) as (connection, detail):
        store = PostgresConfigurationStore(connection, UuidV7Ids())
        made = await change_setting(store, name, value, unit, reason)
        detail["change"] = made.sentence
    return applied([made.sentence])
