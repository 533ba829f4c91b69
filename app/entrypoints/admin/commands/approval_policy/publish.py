"""Publishes a tenant's approval policy as its next version."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from app.adapters.postgres.catalog_publication import Publications
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import InputError, Session
from app.runtime.ids import UuidV7Ids


def command(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Whose policy.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept with the policy and in the audit.")],
) -> Outcome:
    """Publish the policy on standard input, a JSON object; a published one never changes, the next has the next number."""
    session: Session = context.obj
    why = RepairReason(session.operator, reason)
    content = session.input()
    if not isinstance(content, dict) or not content:
        raise InputError("standard input is no JSON object with a policy in it")
    return asyncio.run(_publish(session, tenant, content, why))


async def _publish(session: Session, tenant: str, content: dict[str, Any], reason: RepairReason) -> Outcome:
    async with session.audited_transaction("approval-policy publish", reason.text) as (connection, detail):
        version = await Publications(connection, UuidV7Ids()).publish_policy(tenant, content, reason)
        detail["tenant_id"], detail["policy_version"] = tenant, version
    return applied([f"publish approval policy {version} of {tenant}"], {"policy_version": version})
