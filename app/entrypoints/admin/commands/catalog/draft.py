"""Stores the next catalog version of a tenant, to be published later."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from app.adapters.postgres.catalog_publication import Publications
from app.application.repair import RepairReason
from app.entrypoints.admin.outcome import Outcome, applied
from app.entrypoints.admin.wiring import Session
from app.runtime.ids import UuidV7Ids


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Price(_Document):
    price_type: Literal["oneTime", "recurring"]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    unit_amount: Annotated[Decimal, Field(ge=0)]
    recurring_period: Literal["month", "year"] | None = None


class _Tier(_Document):
    price_type: Literal["oneTime", "recurring"]
    min_quantity: Annotated[int, Field(gt=0)]
    discount_percent: Annotated[Decimal, Field(gt=0, le=100)]
    reason: Annotated[str, Field(min_length=1)]


class _Offering(_Document):
    offering_id: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    name: Annotated[str, Field(min_length=1)]
    product_line: Annotated[str, Field(min_length=1)]
    service_specification: Annotated[str, Field(min_length=1)]
    is_sellable: bool = True
    prices: Annotated[list[_Price], Field(min_length=1)]
    tiers: list[_Tier] = []


class _Catalog(_Document):
    tenant_id: Annotated[str, Field(pattern="^[a-z][a-z0-9-]{1,62}$")]
    offerings: Annotated[list[_Offering], Field(min_length=1)]


def command(
    context: typer.Context,
    version: Annotated[int, typer.Argument(min=1, help="The next number after the tenant's newest version.")],
    reason: Annotated[str, typer.Option(help="Why, and which ticket; kept in the audit.")],
) -> Outcome:
    """Store the catalog on standard input, {"tenant_id": ..., "offerings": [...]}, as a draft that nobody sells from."""
    session: Session = context.obj
    why = RepairReason(session.operator, reason)
    return asyncio.run(_draft(session, session.given(_Catalog), version, why))


async def _draft(session: Session, catalog: _Catalog, version: int, reason: RepairReason) -> Outcome:
    async with session.audited_transaction("catalog draft", reason.text) as (connection, detail):
        document = catalog.model_dump(mode="json")
        sha = await Publications(connection, UuidV7Ids()).draft(document, version, reason)
        detail["tenant_id"], detail["catalog_version"], detail["content_sha256"] = catalog.tenant_id, version, sha
    return applied([f"draft catalog version {version} of {catalog.tenant_id}"], {"content_sha256": sha})
