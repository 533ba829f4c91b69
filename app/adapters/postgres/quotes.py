"""Quotes in PostgreSQL: the quote row, its items, and the price waterfall."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from app.adapters.postgres.named_blocks import NamedBlocks
from app.adapters.postgres.pool import Connection
from app.application.ports import ConcurrentChange
from app.domain.catalog import PriceType
from app.domain.pricing import PriceStep, Step
from app.domain.quote import ItemAction, Quote, QuoteItem, QuoteState
from app.domain.values import Money, QuoteId

_SQL = NamedBlocks("quotes")


class PostgresQuoteRepository:
    """See `app.application.ports.QuoteRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, quote: Quote) -> None:
        await self._connection.execute(
            _SQL["add"],
            {
                "quote_id": quote.quote_id,
                "tenant_id": quote.tenant_id,
                "version": quote.version,
                "aggregate_seq": quote.aggregate_seq,
                "state": quote.state,
                "customer_id": quote.customer_id,
                "currency": quote.currency,
                "catalog_version": quote.catalog_version,
                "valid_until": quote.valid_until,
                "created_by": quote.created_by,
                "created_at": quote.created_at,
                "updated_at": quote.updated_at,
                "item_nos": [item.item_no for item in quote.items],
                "actions": [item.action for item in quote.items],
                "offering_ids": [item.offering_id for item in quote.items],
                "quantities": [item.quantity for item in quote.items],
            },
        )

    async def get(self, quote_id: QuoteId, *, for_update: bool = False) -> Quote | None:
        key = {"quote_id": quote_id}
        cursor = await self._connection.execute(_SQL["get_for_update" if for_update else "get"], key)
        row = await cursor.fetchone()
        if row is None:
            return None
        items = await (await self._connection.execute(_SQL["items"], key)).fetchall()
        steps = await (await self._connection.execute(_SQL["price_steps"], key)).fetchall()
        return _quote(row, items, steps)

    async def save(self, quote: Quote, *, expected_version: int) -> None:
        cursor = await self._connection.execute(
            _SQL["save"],
            {
                "quote_id": quote.quote_id,
                "expected_version": expected_version,
                "version": quote.version,
                "aggregate_seq": quote.aggregate_seq,
                "state": quote.state,
                "priced_at": quote.priced_at,
                "total_one_time": _amount(quote.total_one_time),
                "total_recurring": _amount(quote.total_recurring),
                "updated_at": quote.updated_at,
            },
        )
        if cursor.rowcount != 1:
            raise ConcurrentChange("quote")

    async def replace_prices(self, quote: Quote) -> None:
        await self._connection.execute(_SQL["delete_price_steps"], {"quote_id": quote.quote_id})
        steps = [(item.item_no, step) for item in quote.items for step in item.steps]
        await self._connection.execute(
            _SQL["store_prices"],
            {
                "quote_id": quote.quote_id,
                "tenant_id": quote.tenant_id,
                "item_nos": [item.item_no for item in quote.items],
                "totals_one_time": [_amount(item.total_one_time) for item in quote.items],
                "totals_recurring": [_amount(item.total_recurring) for item in quote.items],
                "step_item_nos": [item_no for item_no, _ in steps],
                "price_types": [step.price_type for _, step in steps],
                "step_nos": [step.step_no for _, step in steps],
                "steps": [step.step for _, step in steps],
                "reasons": [step.reason for _, step in steps],
                "amounts_before": [step.amount_before for _, step in steps],
                "amounts_after": [step.amount_after for _, step in steps],
            },
        )


def _amount(money: Money | None) -> Decimal | None:
    return None if money is None else money.amount


def _money(amount: Decimal | None, currency: str) -> Money | None:
    return None if amount is None else Money(amount, currency)


def _quote(row: dict[str, Any], item_rows: list[dict[str, Any]], step_rows: list[dict[str, Any]]) -> Quote:
    currency = row["currency"]
    steps: defaultdict[int, list[PriceStep]] = defaultdict(list)
    for step in step_rows:
        steps[step["item_no"]].append(
            PriceStep(
                price_type=PriceType(step["price_type"]),
                step_no=step["step_no"],
                step=Step(step["step"]),
                reason=step["reason"],
                amount_before=step["amount_before"],
                amount_after=step["amount_after"],
            )
        )
    return Quote(
        quote_id=row["quote_id"],
        tenant_id=row["tenant_id"],
        version=row["version"],
        aggregate_seq=row["aggregate_seq"],
        state=QuoteState(row["state"]),
        customer_id=row["customer_id"],
        currency=currency,
        catalog_version=row["catalog_version"],
        valid_until=row["valid_until"],
        priced_at=row["priced_at"],
        items=tuple(
            QuoteItem(
                item_no=item["item_no"],
                action=ItemAction(item["action"]),
                offering_id=item["offering_id"],
                quantity=item["quantity"],
                total_one_time=_money(item["total_one_time"], currency),
                total_recurring=_money(item["total_recurring"], currency),
                steps=tuple(steps[item["item_no"]]),
            )
            for item in item_rows
        ),
        total_one_time=_money(row["total_one_time"], currency),
        total_recurring=_money(row["total_recurring"], currency),
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
