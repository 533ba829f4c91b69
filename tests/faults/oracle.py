"""The oracle: a database of its own that holds what was seen from outside, beside a copy of what the platform says.

Nothing here is the product's code, which must not judge itself. Tables hold texts and integers; amounts stay decimal
texts, moments ISO 8601 texts in UTC, so that they compare as they sort. `Oracle.add` refuses a column it does not know.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

# Copies of the platform's tables, rows of the run's tenants only; the names and columns are the platform's own.
PLATFORM_TABLES: Mapping[str, tuple[str, ...]] = {
    "quote": (
        "quote_id", "tenant_id", "version", "aggregate_seq", "state", "customer_id", "currency", "catalog_version",
        "total_one_time", "total_recurring",
    ),
    "quote_item": (
        "quote_id", "tenant_id", "item_no", "offering_id", "quantity", "total_one_time", "total_recurring",
    ),
    "quote_price_step": (
        "quote_id", "tenant_id", "item_no", "price_type", "step_no", "amount_before", "amount_after",
    ),
    "product_offering_price": (
        "tenant_id", "catalog_version", "offering_id", "price_type", "currency", "unit_amount",
    ),
    "price_adjustment_tier": (
        "tenant_id", "catalog_version", "offering_id", "price_type", "min_quantity", "discount_percent",
    ),
    "product_order": (
        "order_id", "tenant_id", "quote_id", "version", "aggregate_seq", "state", "customer_id", "currency",
        "total_one_time", "total_recurring",
    ),
    "order_item": (
        "order_id", "tenant_id", "item_no", "offering_id", "quantity", "total_one_time", "total_recurring",
    ),
    "order_transition": ("order_id", "tenant_id", "aggregate_seq", "from_state", "to_state"),
    "fulfillment_task": ("order_id", "tenant_id", "step", "state", "run_count", "external_reference"),
    "external_call_attempt": (
        "attempt_id", "tenant_id", "order_id", "step", "epoch", "attempt_no", "external_system", "idempotency_key",
        "state", "prepared_at", "external_reference",
    ),
    "workflow_reference": ("order_id", "tenant_id", "state", "start_attempts", "process_instance_key"),
    "fallout_case": ("fallout_id", "tenant_id", "order_id", "step", "error_code", "state"),
    "outbox_event": (
        "event_id", "tenant_id", "aggregate_type", "aggregate_id", "aggregate_seq", "event_type", "topic", "payload",
        "state", "kafka_partition", "kafka_offset", "occurred_at",
    ),
    "inbox_event": (
        "consumer_group", "event_id", "tenant_id", "topic", "kafka_partition", "kafka_offset", "processed_at",
    ),
    "order_projection": (
        "order_id", "tenant_id", "quote_id", "customer_id", "state", "applied_seq", "currency", "total_one_time",
        "total_recurring",
    ),
    "reaction": (
        "reaction_id", "tenant_id", "consumer_group", "order_id", "event_id", "step", "external_system", "state", "runs",
        "external_reference",
    ),
    "audit_export_record": ("tenant_id", "sequence", "event_id", "body", "hash"),
    "reconciliation_event": ("order_id", "aggregate_seq", "tenant_id", "event_id"),
    "reconciliation_finding": (
        "tenant_id", "kind", "order_id", "aggregate_seq", "event_id", "detail", "resolved_at",
    ),
    "external_callback": ("tenant_id", "external_system", "callback_id", "order_id", "idempotency_key", "disposition"),
    "audit_entry": ("audit_id", "tenant_id", "action", "target_type", "target_id", "after_state"),
}  # fmt: skip

# What was seen from outside.
OUTSIDE_TABLES: Mapping[str, tuple[str, ...]] = {
    # One row per request, written before it was sent; status is NULL when no answer came.
    "journal": (
        "request_id", "tenant_id", "principal", "operation", "idempotency_key", "intent", "subject_id", "sent_at",
        "answered_at", "status", "body", "quote_id", "order_id",
    ),
    "tenant": ("tenant_id", "canary"),
    "topic_record": (
        "topic", "kafka_partition", "kafka_offset", "event_id", "tenant_id", "aggregate_id", "aggregate_seq",
        "payload", "is_dead_letter", "written_at",
    ),
    "subscription": ("consumer_group", "topic"),
    # Which events ask a group to have something done outside.
    "reaction_rule": ("consumer_group", "event_type"),
    "effect": ("system", "idempotency_key", "reference", "order_id", "tenant_id", "request", "performed_at"),
    "provider_request": ("request_no", "system", "method", "idempotency_key", "mode", "tenant_id", "arrived_at"),
    "engine_instance": ("process_instance_key", "order_id", "tenant_id", "state"),
    "redis_entry": ("redis_key", "tenant_id", "catalog_version", "offering_id", "price_type", "currency", "unit_amount"),
    # Everything readable that was served, stored, sent or logged for a tenant: where, which, whose, and the text.
    "text": ("place", "item", "tenant_id", "content"),
    "secret_search": ("place", "characters"),
    "secret_hit": ("secret", "place"),
    "sample": ("subject", "measure", "value"),
    # Units that ended by an error of their own, each with the last line that it wrote of it.
    "crash": ("unit", "line"),
    "cap": ("measure", "maximum"),
    "convergence": ("condition", "detail", "seconds", "budget"),
    # What the scenario announces: names are `fallout`, `dead-letter`, `order-open`, `forged`; items are order or event ids.
    "expected": ("name", "item"),
    # When the fault was over: what comes later must be as if it had never been.
    "heal": ("healed_at",),
}  # fmt: skip

TABLES: Mapping[str, tuple[str, ...]] = {**PLATFORM_TABLES, **OUTSIDE_TABLES}


class Oracle:
    """One run's evidence.

    Args:
        path: the SQLite file, or `:memory:`.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._database = sqlite3.connect(path)
        self._database.row_factory = sqlite3.Row
        for table, columns in TABLES.items():
            self._database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")

    def close(self) -> None:
        self._database.close()

    def add(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Add rows; columns left out are NULL. Return how many there were.

        Raises:
            ValueError: a row has a column that the table does not have.
        """
        columns = TABLES[table]
        values = []
        for row in rows:
            if unknown := set(row) - set(columns):
                raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
            values.append([plain(row.get(column)) for column in columns])
        places = ", ".join("?" * len(columns))
        self._database.executemany(f"INSERT INTO {table} VALUES ({places})", values)
        self._database.commit()
        return len(values)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Answer a query."""
        return [dict(row) for row in self._database.execute(query, values)]

    def change(self, statement: str, *values: Any) -> int:
        """Alter the evidence, as tests do that plant a violation; return the number of rows."""
        count = self._database.execute(statement, values).rowcount
        self._database.commit()
        return count

    def has(self, table: str, row: Mapping[str, Any]) -> bool:
        """Whether a row with these values is there."""
        where = " AND ".join(f"{column} = ?" for column in row)
        return bool(self._database.execute(f"SELECT 1 FROM {table} WHERE {where}", list(row.values())).fetchone())


def plain(value: Any) -> Any:
    """Return a value as the oracle stores it: text, integer or None."""
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise TypeError(f"{type(value).__name__} has no place in the oracle")


def moment(text: str) -> str:
    """Return an ISO 8601 moment in the form in which moments compare as texts."""
    return str(plain(datetime.fromisoformat(text)))


def names(rows: Sequence[Mapping[str, Any]], *columns: str, limit: int = 5) -> str:
    """Write some rows out for a failure text: `order_id=… step=…; …`, and how many more there are."""
    shown = "; ".join(" ".join(f"{column}={row[column]}" for column in columns) for row in rows[:limit])
    return shown if len(rows) <= limit else f"{shown}; and {len(rows) - limit} more"
