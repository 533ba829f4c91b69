"""A small sound world as the oracle would hold it: two tenants with an order each, fulfilled from end to end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.faults.oracle import Oracle

STATES = ("acknowledged", "inProgress", "completed")
STEPS = {"reserve-inventory": "inventory", "activate-billing": "billing"}
TOPIC = "oms.order.events.v1"
GROUPS = ("order-projection", "billing-trigger", "audit-export", "reconciliation")


def add_order(oracle: Oracle, tenant: str) -> None:
    """Add a tenant with one completed order, told of by every place that tells of orders."""
    canary, quote, order = f"canary-{tenant}", f"quote-{tenant}", f"order-{tenant}"
    intent = f"{canary}-1"
    oracle.add("tenant", [{"tenant_id": tenant, "canary": canary}])
    said = {"tenant_id": tenant, "principal": "tests", "intent": intent}
    oracle.add(
        "journal",
        [
            {**said, "request_id": f"{tenant}-1", "operation": "create-quote", "idempotency_key": "k-1"}
            | {"status": 201, "body": quote, "quote_id": quote},
            {**said, "request_id": f"{tenant}-2", "operation": "price-quote", "subject_id": quote, "status": 200},
            {**said, "request_id": f"{tenant}-3", "operation": "accept-quote", "subject_id": quote, "status": 200},
            {**said, "request_id": f"{tenant}-4", "operation": "convert-quote", "subject_id": quote}
            | {"idempotency_key": "k-2", "status": None},
            {**said, "request_id": f"{tenant}-5", "operation": "convert-quote", "subject_id": quote}
            | {"idempotency_key": "k-2", "status": 201, "body": order, "order_id": order},
            {**said, "request_id": f"{tenant}-6", "operation": "foreign-order", "status": 404, "body": "nothing there"},
            {**said, "request_id": f"{tenant}-7", "operation": "absent-order", "status": 404, "body": "nothing there"},
        ],
    )
    priced = {"tenant_id": tenant, "total_one_time": "99.80", "total_recurring": "35.10"}
    line = {**priced, "item_no": 1, "offering_id": "fiber", "quantity": 2}
    head = {**priced, "customer_id": intent, "currency": "EUR"}
    oracle.add("quote", [{**head, "quote_id": quote, "state": "accepted", "catalog_version": 1, "aggregate_seq": 0}])
    oracle.add("quote_item", [{**line, "quote_id": quote}])
    price = {"tenant_id": tenant, "catalog_version": 1, "offering_id": "fiber", "currency": "EUR"}
    oracle.add(
        "product_offering_price",
        [
            {**price, "price_type": "oneTime", "unit_amount": "49.90"},
            {**price, "price_type": "recurring", "unit_amount": "19.50"},
        ],
    )
    del price["currency"]
    oracle.add(
        "price_adjustment_tier",
        [{**price, "price_type": "recurring", "min_quantity": 2, "discount_percent": "10"}],
    )
    oracle.add(
        "product_order", [{**head, "order_id": order, "quote_id": quote, "state": "completed", "aggregate_seq": 3}]
    )
    oracle.add("order_item", [{**line, "order_id": order}])
    oracle.add(
        "order_projection",
        [{**head, "order_id": order, "quote_id": quote, "state": "completed", "applied_seq": 3}],
    )
    for seq, state in enumerate(STATES, start=1):
        add_event(oracle, tenant, order, seq, state)
    for number, (step, system) in enumerate(STEPS.items()):
        add_call(oracle, tenant, order, (step, system, number))
    oracle.add("workflow_reference", [{"order_id": order, "tenant_id": tenant, "state": "completed"}])
    oracle.change("UPDATE workflow_reference SET process_instance_key = rowid")
    oracle.add("engine_instance", [{"order_id": order, "tenant_id": tenant, "state": "completed"}])
    oracle.change("UPDATE engine_instance SET process_instance_key = rowid")
    oracle.add(
        "redis_entry",
        [{**price, "redis_key": f"ci:{tenant}:1", "price_type": "oneTime", "currency": "EUR", "unit_amount": "49.9"}],
    )
    oracle.add("text", [{"place": "log", "item": "line 1", "tenant_id": tenant, "content": f"{tenant} {intent}"}])


def add_event(oracle: Oracle, tenant: str, order: str, seq: int, state: str) -> None:
    """Add a transition and its event, published and handled."""
    event = f"event-{order}-{seq}"
    place = {"topic": TOPIC, "kafka_partition": 1, "kafka_offset": int(tenant[-1]) * 10 + seq}
    owner = {"event_id": event, "tenant_id": tenant}
    told = {"aggregate_id": order, "aggregate_seq": seq, "payload": f"{order} {state}"}
    oracle.add("order_transition", [{"order_id": order, "tenant_id": tenant, "aggregate_seq": seq, "to_state": state}])
    oracle.add(
        "audit_entry",
        [
            {
                "tenant_id": tenant,
                "target_type": "order",
                "target_id": order,
                "after_state": json.dumps({"state": state}),
            }
        ],
    )
    oracle.add(
        "outbox_event",
        [
            {**owner, **told, **place, "aggregate_type": "order", "event_type": state, "state": "published"}
            | {"occurred_at": f"2026-01-0{seq}"}
        ],
    )
    oracle.add("topic_record", [{**owner, **told, **place, "is_dead_letter": 0}])
    oracle.add(
        "inbox_event",
        [{**owner, **place, "consumer_group": group, "processed_at": f"2026-01-01T00:00:0{seq}"} for group in GROUPS],
    )
    oracle.add("reconciliation_event", [{**owner, "order_id": order, "aggregate_seq": seq}])
    add_export(oracle, tenant, event, seq)
    if state == "completed":
        reaction = {**owner, "reaction_id": f"r-{event}", "consumer_group": "billing-trigger", "order_id": order}
        done = {"step": "trigger-billing", "external_system": "billing", "state": "done"}
        oracle.add("reaction", [{**reaction, **done, "external_reference": f"billing-{tenant}"}])


def add_export(oracle: Oracle, tenant: str, event: str, sequence: int) -> None:
    """Add the next record of a tenant's export chain."""
    former = oracle.rows("SELECT hash FROM audit_export_record WHERE tenant_id = ? ORDER BY sequence DESC", tenant)
    previous = former[0]["hash"] if former else "0" * 64
    body = json.dumps({"sequence": sequence, "previousHash": previous, "tenantId": tenant, "eventId": event})
    record = {"tenant_id": tenant, "sequence": sequence, "event_id": event, "body": body}
    oracle.add("audit_export_record", [{**record, "hash": hashlib.sha256(body.encode()).hexdigest()}])


def add_call(oracle: Oracle, tenant: str, order: str, call: tuple[str, str, int]) -> None:
    """Add a step that was called twice: the first answer was lost, so the system was asked and had done nothing."""
    step, system, number = call
    key, reference = f"ci:{tenant}:{order}:{step}:1", f"{system}-{tenant}"
    task = {"order_id": order, "tenant_id": tenant, "step": step}
    oracle.add("fulfillment_task", [{**task, "state": "completed", "run_count": 1, "external_reference": reference}])
    attempt = {**task, "external_system": system, "idempotency_key": key}
    oracle.add(
        "external_call_attempt",
        [
            {**attempt, "attempt_id": f"{key}-1", "attempt_no": 1, "state": "failed", "prepared_at": "2026-01-01T01"},
            {
                **attempt,
                "attempt_id": f"{key}-2",
                "attempt_no": 2,
                "state": "succeeded",
                "prepared_at": "2026-01-01T03",
            },
        ],
    )
    request = {"system": system, "idempotency_key": key, "tenant_id": tenant, "mode": "ok"}
    first = int(tenant[-1]) * 100 + number * 10
    oracle.add(
        "provider_request",
        [
            {**request, "request_no": first, "method": "POST", "arrived_at": "2026-01-01T02"},
            {**request, "request_no": first + 1, "method": "GET", "arrived_at": "2026-01-01T02"},
            {**request, "request_no": first + 2, "method": "POST", "arrived_at": "2026-01-01T04"},
        ],
    )
    told = json.dumps({"totalOneTime": "99.80", "totalRecurring": "35.10"})
    effect = {"system": system, "idempotency_key": key, "reference": reference, "order_id": order, "tenant_id": tenant}
    oracle.add("effect", [{**effect, "request": told, "performed_at": "2026-01-01T04"}])


@pytest.fixture
def sound() -> Iterator[Oracle]:
    """A world in which every invariant holds."""
    oracle = Oracle()
    for tenant in ("tenant-1", "tenant-2"):
        add_order(oracle, tenant)
    oracle.add("subscription", [{"consumer_group": group, "topic": TOPIC} for group in GROUPS])
    oracle.add("reaction_rule", [{"consumer_group": "billing-trigger", "event_type": "completed"}])
    oracle.add("convergence", [{"condition": "outbox empty", "seconds": 1, "budget": 30}])
    oracle.add("sample", [{"subject": "relay", "measure": "rss_mb", "value": 80}])
    oracle.add("cap", [{"measure": "rss_mb", "maximum": 400}])
    oracle.add("secret_search", [{"place": "topics", "characters": 1000}])
    oracle.add("heal", [{"healed_at": "2026-01-05"}])
    yield oracle
    oracle.close()
