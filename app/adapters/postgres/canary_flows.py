"""What became of quotes and orders since a moment, for whoever compares a canary with the others: all tenants, one moment, nothing changed.

Who is in a cohort is decided by `app.domain.canary` alone: statements count by what it asks for, and hand over a row for each
combination.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from app.adapters.postgres.catalog import PostgresCatalogRepository
from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.canary.measurement import FlowGroup
from app.domain.canary import Cohort, Dimension, Flow
from app.domain.catalog import ProductOffering
from app.domain.quote import ItemAction, Quote, QuoteItem, QuoteState
from app.domain.values import OfferingId, TenantId

_SQL = NamedBlocks("canary_flows")
_UNKNOWN = {
    Dimension.TENANT: ("unknown_tenants", "there is no tenant"),
    Dimension.PRODUCT_LINE: ("unknown_product_lines", "no catalog has a product line"),
    Dimension.PROCESS: ("unrouted_processes", "no route leads to"),
}


class CanaryFlows:
    """Flows as they are at one moment; see `canary_flows`.

    Attributes:
        until: that moment, by the database's clock.
    """

    def __init__(self, connection: Connection, until: datetime) -> None:
        self._connection = connection
        self.until = until

    async def unknown(self, cohort: Cohort) -> list[str]:
        """Say which names of a cohort are nobody's, one line each: whoever mistypes one would wait for samples for ever."""
        if cohort.dimension not in _UNKNOWN:
            return []
        block, problem = _UNKNOWN[cohort.dimension]
        cursor = await self._connection.execute(_SQL[block], {"names": sorted(cohort.values)})
        return [f"{problem} {row['name']}" for row in await cursor.fetchall()]

    async def groups(self, since: datetime) -> list[FlowGroup]:
        """Count what began since a moment, by all that a cohort may be chosen by."""
        counted = await (await self._connection.execute(_SQL["flows"], {"since": since})).fetchall()
        timed = await (await self._connection.execute(_SQL["task_seconds"], {"since": since})).fetchall()
        return [
            *(
                FlowGroup(_flow(row), row["quotes"], row["converted"], row["orders"], row["fell_out"])
                for row in counted
            ),
            *(FlowGroup(_flow(row), task_seconds=row["task_seconds"]) for row in timed),
        ]

    async def accepted(self, cohort: Cohort, since: datetime) -> list[tuple[Quote, dict[OfferingId, ProductOffering]]]:
        """Return the quotes of a cohort that were accepted since a moment, each with the offerings of its own catalog version."""
        rows = await (await self._connection.execute(_SQL["accepted_quotes"], {"since": since})).fetchall()
        quotes = [_quote(row) for row in rows if cohort.holds(_flow(row))]
        wanted: defaultdict[tuple[TenantId, int], set[OfferingId]] = defaultdict(set)
        for quote in quotes:
            wanted[quote.tenant_id, quote.catalog_version] |= {item.offering_id for item in quote.items}
        offerings = {
            (tenant_id, version): await PostgresCatalogRepository(self._connection, tenant_id).offerings(
                version, sorted(ids)
            )
            for (tenant_id, version), ids in wanted.items()
        }
        return [(quote, offerings[quote.tenant_id, quote.catalog_version]) for quote in quotes]


@asynccontextmanager
async def canary_flows(connection: Connection) -> AsyncIterator[CanaryFlows]:
    """Look at flows within one transaction that reads: what is asked one after the other is of the same moment."""
    async with connection.transaction():
        await connection.execute(_SQL["one_moment"])
        row = await (await connection.execute(_SQL["now"])).fetchone()
        if row is None:
            raise LookupError("now answered no row")
        yield CanaryFlows(connection, row["until"])


def _flow(row: dict[str, Any]) -> Flow:
    return Flow(TenantId(row["tenant_id"]), frozenset(row["product_lines"]), row["process_id"])


def _quote(row: dict[str, Any]) -> Quote:
    """The quote without its prices, which are to be reckoned anew."""
    items = zip(row["item_nos"], row["actions"], row["offering_ids"], row["quantities"], strict=True)
    return Quote(
        quote_id=row["quote_id"],
        tenant_id=row["tenant_id"],
        version=row["version"],
        aggregate_seq=row["aggregate_seq"],
        state=QuoteState(row["state"]),
        customer_id=row["customer_id"],
        currency=row["currency"],
        catalog_version=row["catalog_version"],
        valid_until=row["valid_until"],
        priced_at=row["priced_at"],
        items=tuple(
            QuoteItem(number, ItemAction(action), offering, count) for number, action, offering, count in items
        ),
        total_one_time=None,
        total_recurring=None,
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
