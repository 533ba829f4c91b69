"""What must be true after every fault: one function per invariant, each answering with a line per violation.

A line names the ids that prove it. What an invariant promises and the platform does not have yet is listed as its
`unchecked` part: it is reported as such and never counts as passed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from tests.faults.oracle import Oracle, names

Check = Callable[[Oracle], list[str]]

MINOR_UNIT = {"JPY": Decimal(1), "KWD": Decimal("0.001")}
TERMINAL_STATES = ("completed", "failed", "cancelled", "rejected", "partial")
# What the ledger says of a POST that was answered for certain that nothing was done: any 4xx but a timeout.
_DEFINITE = re.compile(r"error 4(?!08)\d\d")


@dataclass(frozen=True, slots=True)
class Invariant:
    """One invariant.

    Attributes:
        code: I1 to I16.
        claim: what must be true.
        check: answers the violations.
        running: what of it also holds in the middle of a fault; None where nothing can be said then.
        unchecked: what of the claim cannot be checked, because the platform does not have it.
    """

    code: str
    claim: str
    check: Check
    running: Check | None = None
    unchecked: str = ""


def no_acked_loss(oracle: Oracle) -> list[str]:
    """I1: what was acknowledged is there, at least as far as it was acknowledged."""
    orders = oracle.rows(
        "SELECT j.request_id, j.tenant_id, j.order_id FROM journal j LEFT JOIN product_order o USING (tenant_id, order_id) "
        "WHERE j.status BETWEEN 200 AND 299 AND j.order_id IS NOT NULL AND o.order_id IS NULL"
    )
    quotes = oracle.rows(
        "SELECT j.request_id, j.tenant_id, j.quote_id FROM journal j LEFT JOIN quote q USING (tenant_id, quote_id) "
        "WHERE j.status BETWEEN 200 AND 299 AND j.quote_id IS NOT NULL AND q.quote_id IS NULL"
    )
    undone = oracle.rows(
        "SELECT j.request_id, j.operation, j.subject_id, q.state FROM journal j JOIN quote q ON q.quote_id = j.subject_id "
        "WHERE j.status BETWEEN 200 AND 299 AND ((j.operation = 'price-quote' AND q.state = 'inProgress') "
        "OR (j.operation = 'accept-quote' AND q.state <> 'accepted'))"
    )
    return [
        *_violation("acknowledged orders are not in the database", orders, "request_id", "tenant_id", "order_id"),
        *_violation("acknowledged quotes are not in the database", quotes, "request_id", "tenant_id", "quote_id"),
        *_violation("acknowledged changes are undone", undone, "request_id", "operation", "subject_id", "state"),
    ]


def no_phantom(oracle: Oracle) -> list[str]:
    """I2: nothing is there that nobody asked for, or that was refused."""
    unasked = oracle.rows(
        "SELECT o.order_id, o.tenant_id FROM product_order o WHERE NOT EXISTS (SELECT 1 FROM journal j WHERE "
        "j.operation = 'convert-quote' AND j.tenant_id = o.tenant_id AND j.subject_id = o.quote_id)"
    )
    refused = oracle.rows(
        "SELECT o.order_id, o.tenant_id FROM product_order o JOIN journal j ON j.operation = 'convert-quote' "
        "AND j.tenant_id = o.tenant_id AND j.subject_id = o.quote_id GROUP BY o.order_id, o.tenant_id "
        "HAVING min(CASE WHEN j.status BETWEEN 400 AND 499 THEN 1 ELSE 0 END) = 1"
    )
    quotes = oracle.rows(
        "SELECT q.quote_id, q.tenant_id, q.customer_id FROM quote q WHERE NOT EXISTS (SELECT 1 FROM journal j WHERE "
        "j.operation = 'create-quote' AND j.tenant_id = q.tenant_id AND j.intent = q.customer_id "
        "AND (j.status IS NULL OR j.status NOT BETWEEN 400 AND 499))"
    )
    return [
        *_violation("orders that nobody asked for", unasked, "order_id", "tenant_id"),
        *_violation("orders although every request was refused", refused, "order_id", "tenant_id"),
        *_violation("quotes that nobody asked for", quotes, "quote_id", "tenant_id", "customer_id"),
    ]


def one_intent_one_order(oracle: Oracle) -> list[str]:
    """I3: one intent has one effect and, for one key, one answer to the byte."""
    several = oracle.rows(
        "SELECT tenant_id, principal, operation, idempotency_key, count(DISTINCT coalesce(order_id, quote_id)) AS results, "
        "count(DISTINCT body) AS bodies FROM journal WHERE status BETWEEN 200 AND 299 AND idempotency_key IS NOT NULL "
        "GROUP BY tenant_id, principal, operation, idempotency_key HAVING results > 1 OR bodies > 1"
    )
    quotes = oracle.rows(
        "SELECT tenant_id, customer_id, count(*) AS quotes, group_concat(quote_id) AS ids FROM quote "
        "GROUP BY tenant_id, customer_id HAVING quotes > 1"
    )
    orders = oracle.rows(
        "SELECT tenant_id, customer_id, count(*) AS orders, group_concat(order_id) AS ids FROM product_order "
        "GROUP BY tenant_id, customer_id HAVING orders > 1"
    )
    return [
        *_violation("one key has several answers", several, "tenant_id", "idempotency_key", "results", "bodies"),
        *_violation("one intent made several quotes", quotes, "tenant_id", "customer_id", "ids"),
        *_violation("one intent made several orders", orders, "tenant_id", "customer_id", "ids"),
    ]


def outbox_complete(oracle: Oracle) -> list[str]:
    """I4: every transition has its event and every event its transition; sequences have no gap."""
    unsent = oracle.rows(
        "SELECT t.order_id, t.aggregate_seq, t.to_state FROM order_transition t LEFT JOIN outbox_event e "
        "ON e.aggregate_id = t.order_id AND e.aggregate_seq = t.aggregate_seq WHERE e.event_id IS NULL"
    )
    unfounded = oracle.rows(
        "SELECT e.event_id, e.aggregate_type, e.aggregate_id, e.aggregate_seq FROM outbox_event e "
        "LEFT JOIN order_transition t ON e.aggregate_id = t.order_id AND e.aggregate_seq = t.aggregate_seq "
        "LEFT JOIN quote q ON q.quote_id = e.aggregate_id AND e.aggregate_seq <= q.aggregate_seq "
        "WHERE t.order_id IS NULL AND q.quote_id IS NULL"
    )
    gaps = oracle.rows(
        "SELECT aggregate_id, count(*) AS events, min(aggregate_seq) AS first, max(aggregate_seq) AS last "
        "FROM outbox_event GROUP BY aggregate_id HAVING first <> 1 OR last <> events"
    )
    behind = oracle.rows(
        "SELECT a.id, a.aggregate_seq, coalesce(max(e.aggregate_seq), 0) AS last FROM ("
        "SELECT order_id AS id, aggregate_seq FROM product_order UNION ALL SELECT quote_id, aggregate_seq FROM quote) a "
        "LEFT JOIN outbox_event e ON e.aggregate_id = a.id GROUP BY a.id, a.aggregate_seq HAVING last <> a.aggregate_seq"
    )
    return [
        *_violation("transitions without an event", unsent, "order_id", "aggregate_seq", "to_state"),
        *_violation("events without what they tell of", unfounded, "event_id", "aggregate_id", "aggregate_seq"),
        *_violation("sequences are not 1 to n", gaps, "aggregate_id", "events", "first", "last"),
        *_violation("the aggregate's sequence is not its last event's", behind, "id", "aggregate_seq", "last"),
    ]


def topic_complete(oracle: Oracle) -> list[str]:
    """I5: outbox and topics hold the same events; a duplicate is the same to the byte, and belongs to a fault."""
    missing = oracle.rows(
        "SELECT e.event_id, e.topic, e.aggregate_id, e.aggregate_seq, e.state FROM outbox_event e "
        "LEFT JOIN topic_record r ON r.event_id = e.event_id AND r.is_dead_letter = 0 "
        "WHERE r.event_id IS NULL AND e.event_id NOT IN (SELECT item FROM expected WHERE name = 'unpublished')"
    )
    unknown = oracle.rows(
        "SELECT r.event_id, r.topic, r.kafka_partition, r.kafka_offset FROM topic_record r "
        "LEFT JOIN outbox_event e USING (event_id) WHERE e.event_id IS NULL AND r.is_dead_letter = 0 "
        "AND r.event_id NOT IN (SELECT item FROM expected WHERE name = 'forged')"
    )
    altered = [
        {**row, "hash": hashlib.sha256(str(row["payload"]).encode()).hexdigest()[:12]}
        for row in oracle.rows(
            "SELECT r.event_id, r.kafka_partition, r.kafka_offset, r.payload FROM topic_record r "
            "JOIN outbox_event e USING (event_id) WHERE r.is_dead_letter = 0 AND "
            "(r.payload <> e.payload OR r.tenant_id <> e.tenant_id OR r.aggregate_id <> e.aggregate_id "
            "OR r.aggregate_seq <> e.aggregate_seq OR r.topic <> e.topic)"
        )
    ]
    misplaced = oracle.rows(
        "SELECT e.event_id, e.kafka_partition, e.kafka_offset FROM outbox_event e WHERE e.state = 'published' "
        "AND e.kafka_offset IS NOT NULL AND NOT EXISTS (SELECT 1 FROM topic_record r WHERE r.event_id = e.event_id "
        "AND r.topic = e.topic AND r.kafka_partition = e.kafka_partition AND r.kafka_offset = e.kafka_offset)"
    )
    repeated = oracle.rows(
        "SELECT r.event_id, count(*) AS records FROM topic_record r JOIN outbox_event e USING (event_id) JOIN heal h "
        "WHERE r.is_dead_letter = 0 AND e.occurred_at > h.healed_at GROUP BY r.event_id HAVING records > 1"
    )
    return [
        *_violation("events are not in their topic", missing, "event_id", "aggregate_id", "aggregate_seq", "state"),
        *_violation("records that no outbox row stands for", unknown, "event_id", "topic", "kafka_offset"),
        *_violation("records differ from their outbox row", altered, "event_id", "kafka_offset", "hash"),
        *_violation("outbox rows name a place where they are not", misplaced, "event_id", "kafka_offset"),
        *_violation("events made after the fault was over are repeated", repeated, "event_id", "records"),
    ]


def effect_once(oracle: Oracle) -> list[str]:
    """I6: every subscribed group has handled every event once, and its effect is there."""
    return [*events_handled(oracle), *effects_founded(oracle)]


def events_handled(oracle: Oracle) -> list[str]:
    """The part of I6 that is true when everything came to rest."""
    unseen = oracle.rows(
        "SELECT DISTINCT s.consumer_group, r.event_id, r.aggregate_id, r.aggregate_seq FROM topic_record r "
        "JOIN subscription s USING (topic) LEFT JOIN inbox_event i USING (consumer_group, event_id) "
        "WHERE i.event_id IS NULL AND r.is_dead_letter = 0 "
        "AND r.event_id NOT IN (SELECT item FROM expected WHERE name IN ('dead-letter', 'forged'))"
    )
    return _violation("events a group has not handled", unseen, "consumer_group", "event_id", "aggregate_id")


def effects_founded(oracle: Oracle) -> list[str]:
    """The part of I6 that holds at every moment: inbox and effect are one transaction."""
    repeated = oracle.rows(
        "SELECT consumer_group, event_id, count(*) AS times FROM inbox_event GROUP BY consumer_group, event_id "
        "HAVING times > 1"
    )
    forged = oracle.rows(
        "SELECT consumer_group, event_id FROM inbox_event WHERE event_id IN (SELECT item FROM expected WHERE name = 'forged')"
    )
    effectless = oracle.rows(
        "SELECT i.event_id, e.aggregate_id, e.aggregate_seq, p.applied_seq FROM inbox_event i "
        "JOIN outbox_event e USING (event_id) LEFT JOIN order_projection p ON p.order_id = e.aggregate_id "
        "WHERE i.consumer_group = 'order-projection' AND e.aggregate_type = 'order' "
        "AND (p.order_id IS NULL OR p.applied_seq < e.aggregate_seq)"
    )
    unfounded = oracle.rows(
        "SELECT p.order_id, p.applied_seq FROM order_projection p WHERE NOT EXISTS (SELECT 1 FROM inbox_event i "
        "JOIN outbox_event e USING (event_id) WHERE i.consumer_group = 'order-projection' "
        "AND e.aggregate_id = p.order_id AND e.aggregate_seq = p.applied_seq)"
    )
    return [
        *_violation("events a group has handled more than once", repeated, "consumer_group", "event_id", "times"),
        *_violation("forged events that were handled", forged, "consumer_group", "event_id"),
        *_violation("events in the inbox without their effect", effectless, "event_id", "aggregate_id", "applied_seq"),
        *_violation("effects without their event in the inbox", unfounded, "order_id", "applied_seq"),
        *_reactions_founded(oracle),
        *_records_founded(oracle, "audit-export", "audit_export_record", "true"),
        *_records_founded(oracle, "reconciliation", "reconciliation_event", "e.aggregate_type = 'order'"),
    ]


def _reactions_founded(oracle: Oracle) -> list[str]:
    """Each event that asks a group for something has one reaction with its inbox row, and no other event has any."""
    missing = oracle.rows(
        "SELECT i.consumer_group, e.event_id, e.event_type, e.aggregate_id FROM inbox_event i JOIN outbox_event e USING (event_id) "
        "JOIN reaction_rule r ON r.consumer_group = i.consumer_group AND r.event_type = e.event_type "
        "LEFT JOIN reaction x ON x.consumer_group = i.consumer_group AND x.event_id = e.event_id WHERE x.reaction_id IS NULL"
    )
    unfounded = oracle.rows(
        "SELECT x.consumer_group, x.event_id, x.order_id FROM reaction x "
        "LEFT JOIN inbox_event i ON i.consumer_group = x.consumer_group AND i.event_id = x.event_id "
        "LEFT JOIN outbox_event e ON e.event_id = x.event_id "
        "LEFT JOIN reaction_rule r ON r.consumer_group = x.consumer_group AND r.event_type = e.event_type "
        "WHERE i.event_id IS NULL OR r.event_type IS NULL"
    )
    several = oracle.rows(
        "SELECT consumer_group, event_id, count(*) AS reactions FROM reaction GROUP BY consumer_group, event_id "
        "HAVING reactions > 1"
    )
    return [
        *_violation(
            "events in the inbox without their reaction", missing, "consumer_group", "event_id", "aggregate_id"
        ),
        *_violation("reactions without their event in the inbox", unfounded, "consumer_group", "event_id", "order_id"),
        *_violation("events with several reactions", several, "consumer_group", "event_id", "reactions"),
    ]


def _records_founded(oracle: Oracle, group: str, table: str, of: str) -> list[str]:
    """Each event that a group has in its inbox is once in the group's own table, and nothing else is there."""
    missing = oracle.rows(
        f"SELECT i.event_id, e.aggregate_id FROM inbox_event i JOIN outbox_event e USING (event_id) "
        f"LEFT JOIN {table} x ON x.event_id = i.event_id WHERE i.consumer_group = ? AND {of} AND x.event_id IS NULL",
        group,
    )
    unfounded = oracle.rows(
        f"SELECT x.event_id FROM {table} x LEFT JOIN inbox_event i ON i.event_id = x.event_id AND i.consumer_group = ? "
        "WHERE i.event_id IS NULL",
        group,
    )
    several = oracle.rows(f"SELECT event_id, count(*) AS times FROM {table} GROUP BY event_id HAVING times > 1")
    return [
        *_violation(f"events in the inbox of {group} without their effect", missing, "event_id", "aggregate_id"),
        *_violation(f"effects of {group} without their event in the inbox", unfounded, "event_id"),
        *_violation(f"effects of {group} that are there more than once", several, "event_id", "times"),
    ]


def order_kept(oracle: Oracle) -> list[str]:
    """I7: each aggregate's events are in one partition, first come in order, and are applied in order without a gap."""
    found: list[str] = []
    first_seen: dict[str, list[int]] = defaultdict(list)
    partitions: dict[str, set[int]] = defaultdict(set)
    for row in oracle.rows(
        "SELECT topic, aggregate_id, aggregate_seq, kafka_partition FROM topic_record WHERE is_dead_letter = 0 "
        "AND event_id NOT IN (SELECT item FROM expected WHERE name = 'forged') "
        "ORDER BY topic, kafka_partition, kafka_offset"
    ):
        partitions[row["aggregate_id"]].add(row["kafka_partition"])
        if row["aggregate_seq"] not in first_seen[row["aggregate_id"]]:
            first_seen[row["aggregate_id"]].append(row["aggregate_seq"])
    disordered = [
        {"aggregate_id": aggregate, "sequence": sequence}
        for aggregate, sequence in first_seen.items()
        if sequence != list(range(1, len(sequence) + 1))
    ]
    scattered = [
        {"aggregate_id": aggregate, "partitions": sorted(numbers)}
        for aggregate, numbers in partitions.items()
        if len(numbers) > 1
    ]
    applied: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in oracle.rows(
        "SELECT i.consumer_group, e.aggregate_id, e.aggregate_seq FROM inbox_event i JOIN outbox_event e USING (event_id) "
        "ORDER BY i.processed_at, e.aggregate_seq"
    ):
        applied[row["consumer_group"], row["aggregate_id"]].append(row["aggregate_seq"])
    misapplied = [
        {"consumer_group": group, "aggregate_id": aggregate, "sequence": sequence}
        for (group, aggregate), sequence in applied.items()
        if sequence != list(range(1, len(sequence) + 1))
    ]
    found += _violation("an aggregate's events are not in order in the topic", disordered, "aggregate_id", "sequence")
    found += _violation("an aggregate's events are in several partitions", scattered, "aggregate_id", "partitions")
    found += _violation(
        "events were not applied one after the other", misapplied, "consumer_group", "aggregate_id", "sequence"
    )
    return found


def external_calls(oracle: Oracle) -> list[str]:
    """I8: each step had its effect outside once, no call went out unrecorded, and what was unknown was asked for."""
    return [*calls_recorded(oracle), *calls_settled(oracle)]


def calls_recorded(oracle: Oracle) -> list[str]:
    """The part of I8 that holds at every moment, when the ledger was read before the database."""
    twice = oracle.rows(
        "SELECT a.external_system AS system, a.order_id, count(DISTINCT f.reference) AS effects, a.step AS keys "
        "FROM external_call_attempt a JOIN effect f ON f.system = a.external_system "
        "AND f.idempotency_key = a.idempotency_key GROUP BY a.order_id, a.step, a.external_system HAVING effects > 1"
    )
    unrecorded = oracle.rows(
        "SELECT f.system, f.order_id, f.idempotency_key FROM effect f LEFT JOIN external_call_attempt a "
        "ON a.idempotency_key = f.idempotency_key AND a.external_system = f.system WHERE a.attempt_id IS NULL"
    )
    return [
        *_violation("a step had its effect more than once", twice, "system", "order_id", "effects", "keys"),
        *_violation("effects without a recorded attempt", unrecorded, "system", "order_id", "idempotency_key"),
        *_call_sequences(oracle),
    ]


def calls_settled(oracle: Oracle) -> list[str]:
    """The part of I8 that is true when everything came to rest."""
    undone = oracle.rows(
        "SELECT t.order_id, t.step, t.external_reference FROM fulfillment_task t WHERE t.state = 'completed' "
        "AND t.external_reference IS NOT NULL AND NOT EXISTS (SELECT 1 FROM effect f WHERE f.order_id = t.order_id "
        "AND f.reference = t.external_reference)"
    )
    unasked = oracle.rows(
        "SELECT DISTINCT t.order_id, t.step FROM fulfillment_task t JOIN external_call_attempt a "
        "ON a.order_id = t.order_id AND a.step = t.step WHERE t.state = 'completed' AND t.external_reference IS NULL"
    )
    unsettled = oracle.rows(
        "SELECT a.order_id, a.step, a.attempt_no, a.state FROM external_call_attempt a "
        "JOIN fulfillment_task t USING (order_id, step) WHERE a.state IN ('prepared', 'unknown') AND t.state = 'completed'"
    )
    unreacted = oracle.rows(
        "SELECT r.order_id, r.step, r.external_reference FROM reaction r WHERE r.state = 'done' AND NOT EXISTS ("
        "SELECT 1 FROM effect f WHERE f.order_id = r.order_id AND f.reference = r.external_reference)"
    )
    return [
        *_violation("completed reactions whose effect is nowhere", unreacted, "order_id", "step", "external_reference"),
        *_violation("completed steps whose effect is nowhere", undone, "order_id", "step", "external_reference"),
        *_violation("completed steps that know no reference", unasked, "order_id", "step"),
        *_violation("completed steps with a call whose end is unknown", unsettled, "order_id", "step", "attempt_no"),
    ]


def _call_sequences(oracle: Oracle) -> list[str]:
    """Each call has its attempt, prepared before it arrived; a repeated call was asked about first."""
    attempts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in oracle.rows(
        "SELECT external_system, idempotency_key, prepared_at FROM external_call_attempt ORDER BY 3"
    ):
        attempts[row["external_system"], row["idempotency_key"]].append(row["prepared_at"])
    calls: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in oracle.rows("SELECT * FROM provider_request WHERE method IN ('GET', 'POST') ORDER BY request_no"):
        calls[row["system"], row["idempotency_key"]].append(row)
    found: list[str] = []
    for key, requests in calls.items():
        posts = [request for request in requests if request["method"] == "POST"]
        prepared = attempts.get(key, [])
        for number, post in enumerate(posts):
            if number >= len(prepared):
                found.append(f"a call without an attempt: {key[0]} {key[1]}, call {number + 1} of {len(posts)}")
            elif prepared[number] >= post["arrived_at"]:
                found.append(
                    f"a call before its attempt was prepared: {key[0]} {key[1]} arrived {post['arrived_at']}, "
                    f"prepared {prepared[number]}"
                )
        for former, later in itertools.pairwise(posts):
            is_asked = any(
                request["method"] == "GET" and former["request_no"] < request["request_no"] < later["request_no"]
                for request in requests
            )
            if not is_asked and not _DEFINITE.fullmatch(former["mode"]):
                found.append(f"a call was repeated without asking what the first one did: {key[0]} {key[1]}")
    return found


def saga_closed(oracle: Oracle) -> list[str]:
    """I9: every order has ended, or has one live instance, or waits for a person; the engine and we agree on which."""
    states = ", ".join(f"'{state}'" for state in TERMINAL_STATES)
    positions = oracle.rows(
        f"SELECT o.order_id, o.state, o.state IN ({states}) AS ended, "
        "(SELECT count(*) FROM engine_instance i WHERE i.order_id = o.order_id AND i.state = 'active') AS live, "
        "(SELECT count(*) FROM engine_instance i WHERE i.order_id = o.order_id) AS instances, "
        "(SELECT count(*) FROM fallout_case f WHERE f.order_id = o.order_id AND f.state = 'open') AS fallout "
        "FROM product_order o"
    )
    # An instance whose step fell out stands at its incident: it is live, and the case is the one that counts.
    open_ended = [row for row in positions if bool(row["ended"]) + bool(row["live"] or row["fallout"]) != 1]
    several = [row for row in positions if row["instances"] > 1]
    fallen = [
        row
        for row in positions
        if row["fallout"] and not oracle.has("expected", {"name": "fallout", "item": row["order_id"]})
    ]
    unfinished = [
        row
        for row in positions
        if not row["ended"]
        and not row["fallout"]
        and not oracle.has("expected", {"name": "order-open", "item": row["order_id"]})
    ]
    unmatched = oracle.rows(
        "SELECT w.order_id, w.state, w.process_instance_key FROM workflow_reference w LEFT JOIN engine_instance i "
        "ON i.process_instance_key = w.process_instance_key AND i.order_id = w.order_id "
        "WHERE w.state <> 'pending' AND i.process_instance_key IS NULL"
    )
    strangers = oracle.rows(
        "SELECT i.process_instance_key, i.order_id FROM engine_instance i LEFT JOIN workflow_reference w "
        "ON w.process_instance_key = i.process_instance_key WHERE w.order_id IS NULL"
    )
    return [
        *_violation("orders that neither ended nor wait once", open_ended, "order_id", "state", "live", "fallout"),
        *_violation("orders with several process instances", several, "order_id", "instances"),
        *_violation("orders in fallout that should not be", fallen, "order_id", "state", "fallout"),
        *_violation("orders that did not end", unfinished, "order_id", "state", "live"),
        *_violation("references without their instance", unmatched, "order_id", "state", "process_instance_key"),
        *_violation("instances without a reference", strangers, "process_instance_key", "order_id"),
    ]


def money(oracle: Oracle) -> list[str]:
    """I10: lines add up, stored prices are those of the stored price list, and billing was told the order's price."""
    found: list[str] = []
    for head, line, key in (("quote", "quote_item", "quote_id"), ("product_order", "order_item", "order_id")):
        sums: dict[str, tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
        for row in oracle.rows(f"SELECT {key} AS id, total_one_time, total_recurring FROM {line}"):
            once, again = sums[row["id"]]
            sums[row["id"]] = (once + _amount(row["total_one_time"]), again + _amount(row["total_recurring"]))
        for row in oracle.rows(
            f"SELECT {key} AS id, total_one_time, total_recurring FROM {head} WHERE total_one_time IS NOT NULL"
        ):
            total = (_amount(row["total_one_time"]), _amount(row["total_recurring"]))
            if sums[row["id"]] != total:
                found.append(f"lines of {head} {row['id']} add up to {_shown(sums[row['id']])}, not to {_shown(total)}")
    found += _repriced(oracle)
    for row in oracle.rows("SELECT system, order_id, request FROM effect WHERE system = 'billing'"):
        request = json.loads(row["request"])
        for order in oracle.rows(
            "SELECT total_one_time, total_recurring FROM product_order WHERE order_id = ?", row["order_id"]
        ):
            told = tuple(_amount(request.get(name)) for name in ("totalOneTime", "totalRecurring"))
            owed = (_amount(order["total_one_time"]), _amount(order["total_recurring"]))
            if "totalOneTime" in request and told != owed:
                found.append(f"billing was told {told} for order {row['order_id']}, which costs {owed}")
    return found


def _repriced(oracle: Oracle) -> list[str]:
    """Price every line of every priced quote and every order again, from the list of its catalog version."""
    prices = {
        (row["tenant_id"], row["catalog_version"], row["offering_id"], row["price_type"], row["currency"]): Decimal(
            str(row["unit_amount"])
        )
        for row in oracle.rows("SELECT * FROM product_offering_price")
    }
    tiers: dict[tuple[Any, ...], list[tuple[int, Decimal]]] = defaultdict(list)
    for row in oracle.rows("SELECT * FROM price_adjustment_tier"):
        tiers[row["tenant_id"], row["catalog_version"], row["offering_id"], row["price_type"]].append(
            (row["min_quantity"], Decimal(str(row["discount_percent"])))
        )
    lines = oracle.rows(
        "SELECT 'quote' AS kind, q.quote_id AS id, q.tenant_id, q.catalog_version, q.currency, i.* FROM quote q "
        "JOIN quote_item i USING (quote_id) WHERE i.total_one_time IS NOT NULL"
    ) + oracle.rows(
        "SELECT 'order' AS kind, o.order_id AS id, o.tenant_id, q.catalog_version, o.currency, i.* FROM product_order o "
        "JOIN quote q USING (quote_id) JOIN order_item i USING (order_id)"
    )
    found = []
    for line in lines:
        unit = MINOR_UNIT.get(line["currency"], Decimal("0.01"))
        for price_type, column in (("oneTime", "total_one_time"), ("recurring", "total_recurring")):
            item = (line["tenant_id"], line["catalog_version"], line["offering_id"], price_type)
            exact = prices.get((*item, line["currency"]), Decimal(0)) * line["quantity"]
            reached = [tier for tier in tiers[item] if tier[0] <= line["quantity"]]
            if reached:
                exact = exact * (100 - max(reached)[1]) / 100
            expected = exact.quantize(unit, ROUND_HALF_EVEN)
            if expected != _amount(line[column]):
                found.append(
                    f"{line['kind']} {line['id']} line {line['item_no']}: {price_type} is {line[column]}, "
                    f"its price list says {expected}"
                )
    return found


def tenant_wall(oracle: Oracle) -> list[str]:
    """I11: no tenant's mark is in anything that was served, stored, sent or logged for another; foreign ids are unknown."""
    leaks = oracle.rows(
        "SELECT x.place, x.item, x.tenant_id AS served_to, t.tenant_id AS belongs_to FROM text x JOIN tenant t "
        "ON t.tenant_id <> x.tenant_id WHERE instr(x.content, t.canary) OR instr(x.content, t.tenant_id)"
    )
    crossings = oracle.rows(
        "SELECT request_id, tenant_id, operation, subject_id, status FROM journal "
        "WHERE operation LIKE 'foreign-%' AND status IS NOT NULL AND status <> 404 AND status < 500"
    )
    # The answer to a foreign id is the answer to one that never was, but for the request's own number.
    differing = oracle.rows(
        "SELECT operation, count(DISTINCT body) AS bodies FROM journal WHERE operation IN ('foreign-order', 'absent-order') "
        "AND status = 404 GROUP BY 'all' HAVING bodies > 1"
    )
    return [
        *_violation("a tenant's data at another", leaks, "place", "item", "served_to", "belongs_to"),
        *_violation("a foreign id was answered", crossings, "request_id", "tenant_id", "subject_id", "status"),
        *_violation("a foreign id is told from one that never was", differing, "operation", "bodies"),
    ]


def audit_kept(oracle: Oracle) -> list[str]:
    """I12: every transition has one audit entry and every entry about an order its transition."""
    transitions: dict[str, list[str]] = defaultdict(list)
    for row in oracle.rows("SELECT order_id, to_state FROM order_transition ORDER BY order_id, aggregate_seq"):
        transitions[row["order_id"]].append(row["to_state"])
    entries: dict[str, list[str]] = defaultdict(list)
    for row in oracle.rows("SELECT target_id, after_state FROM audit_entry WHERE target_type = 'order'"):
        entries[row["target_id"]].append(str(json.loads(row["after_state"] or "{}").get("state")))
    return [
        *_export_chains(oracle),
        *(
            f"order {order} went through {transitions[order]}, its audit entries tell of {entries[order]}"
            for order in sorted(transitions.keys() | entries.keys())
            if sorted(transitions[order]) != sorted(entries[order])
        ),
    ]


def _export_chains(oracle: Oracle) -> list[str]:
    """Each tenant's exported events are one chain from its first record to its last."""
    found: list[str] = []
    rows = oracle.rows("SELECT * FROM audit_export_record ORDER BY tenant_id, sequence")
    for tenant, own in itertools.groupby(rows, key=lambda row: row["tenant_id"]):
        former = "0" * 64
        for number, row in enumerate(own, start=1):
            body = json.loads(row["body"])
            told = (body["sequence"], body["previousHash"], body["tenantId"], body["eventId"])
            is_sound = (
                row["sequence"] == number
                and told == (number, former, tenant, row["event_id"])
                and hashlib.sha256(row["body"].encode()).hexdigest() == row["hash"]
            )
            if not is_sound:
                found.append(f"the export chain of {tenant} is broken at record {number}: event_id={row['event_id']}")
                break
            former = row["hash"]
    return found


def convergence(oracle: Oracle) -> list[str]:
    """I13: within its budget everything came to rest, and nothing is a dead letter that should not be."""
    late = oracle.rows(
        "SELECT condition, detail, seconds, budget FROM convergence WHERE seconds IS NULL OR seconds > budget"
    )
    pending = oracle.rows(
        "SELECT event_id, aggregate_id, aggregate_seq, state FROM outbox_event WHERE state <> 'published' "
        "AND event_id NOT IN (SELECT item FROM expected WHERE name = 'unpublished')"
    )
    unstarted = oracle.rows(
        "SELECT order_id, start_attempts FROM workflow_reference WHERE state = 'pending' "
        "AND order_id NOT IN (SELECT item FROM expected WHERE name = 'order-open')"
    )
    dead = oracle.rows(
        "SELECT topic, kafka_offset, event_id FROM topic_record WHERE is_dead_letter = 1 "
        "AND coalesce(event_id, '') NOT IN (SELECT item FROM expected WHERE name IN ('dead-letter', 'forged'))"
    )
    unburied = oracle.rows(
        "SELECT item AS event_id FROM expected WHERE name = 'forged' AND item NOT IN ("
        "SELECT event_id FROM topic_record WHERE is_dead_letter = 1 AND event_id IS NOT NULL)"
    )
    unreacted = oracle.rows("SELECT reaction_id, consumer_group, order_id, state FROM reaction WHERE state <> 'done'")
    return [
        *_violation("forged events that are no dead letters", unburied, "event_id"),
        *_violation("reactions that are not done", unreacted, "reaction_id", "consumer_group", "order_id", "state"),
        *_violation("not at rest within the budget", late, "condition", "detail", "seconds", "budget"),
        *_violation("events that still wait", pending, "event_id", "aggregate_id", "aggregate_seq", "state"),
        *_violation("orders whose process still waits to be started", unstarted, "order_id", "start_attempts"),
        *_violation("unexpected dead letters", dead, "topic", "kafka_offset", "event_id"),
    ]


def derived_is_truth(oracle: Oracle) -> list[str]:
    """I14: read models and cached values say what the truth says."""
    projections = oracle.rows(
        "SELECT o.order_id, o.state, o.aggregate_seq, p.state AS projected, p.applied_seq FROM product_order o "
        "LEFT JOIN order_projection p USING (order_id) WHERE p.order_id IS NULL OR p.state <> o.state "
        "OR p.applied_seq <> o.aggregate_seq OR p.tenant_id <> o.tenant_id OR p.quote_id <> o.quote_id "
        "OR p.customer_id <> o.customer_id OR p.currency <> o.currency "
        "OR p.total_one_time + 0 <> o.total_one_time + 0 OR p.total_recurring + 0 <> o.total_recurring + 0"
    )
    unfounded = oracle.rows(
        "SELECT p.order_id FROM order_projection p LEFT JOIN product_order o USING (order_id) WHERE o.order_id IS NULL"
    )
    cached = oracle.rows(
        "SELECT r.redis_key, r.price_type, r.unit_amount, p.unit_amount AS truth FROM redis_entry r "
        "LEFT JOIN product_offering_price p USING (tenant_id, catalog_version, offering_id, price_type, currency) "
        "WHERE p.unit_amount IS NULL OR p.unit_amount + 0 <> r.unit_amount + 0"
    )
    disagreements = oracle.rows(
        "SELECT kind, order_id, event_id, detail FROM reconciliation_finding WHERE resolved_at IS NULL "
        "AND event_id NOT IN (SELECT item FROM expected WHERE name = 'forged')"
    )
    return [
        *_violation("reconciliation found a disagreement", disagreements, "kind", "order_id", "event_id", "detail"),
        *_violation(
            "read models differ", projections, "order_id", "state", "aggregate_seq", "projected", "applied_seq"
        ),
        *_violation("read models of orders that are not there", unfounded, "order_id"),
        *_violation("cached values differ", cached, "redis_key", "price_type", "unit_amount", "truth"),
    ]


def bounded(oracle: Oracle) -> list[str]:
    """I15: nothing grew beyond its cap, and nothing ended but by the fault's own hand."""
    over = oracle.rows(
        "SELECT s.subject, s.measure, max(s.value) AS value, c.maximum FROM sample s JOIN cap c USING (measure) "
        "GROUP BY s.subject, s.measure, c.maximum HAVING value > c.maximum"
    )
    crashes = oracle.rows("SELECT unit, line FROM crash")
    unmeasured = oracle.rows("SELECT measure FROM cap WHERE measure NOT IN (SELECT measure FROM sample)")
    return [
        *_violation("units that ended by an error of their own", crashes, "unit", "line"),
        *_violation("over its cap", over, "subject", "measure", "value", "maximum"),
        *_violation("never measured", unmeasured, "measure"),
    ]


def no_secret(oracle: Oracle) -> list[str]:
    """I16: no credential is anywhere but in its file."""
    hits = oracle.rows("SELECT DISTINCT secret, place FROM secret_hit")
    unread = oracle.rows(
        "SELECT place, sum(characters) AS characters FROM secret_search WHERE place IN ('topics', 'engine records', 'log of api') "
        "GROUP BY place HAVING characters = 0"
    )
    return [
        *_violation("a secret was found", hits, "secret", "place"),
        *_violation("a place held nothing to search", unread, "place"),
        *([] if oracle.rows("SELECT 1 FROM secret_search") else ["no place was searched for secrets"]),
    ]


INVARIANTS: Sequence[Invariant] = (
    Invariant("I1", "no acknowledged loss", no_acked_loss, no_acked_loss),
    Invariant("I2", "no phantom", no_phantom),
    Invariant("I3", "one intent, one order", one_intent_one_order, one_intent_one_order),
    Invariant("I4", "outbox complete", outbox_complete),
    Invariant("I5", "topic complete", topic_complete),
    Invariant("I6", "effect once", effect_once, effects_founded),
    Invariant("I7", "order kept", order_kept),
    Invariant("I8", "no duplicate or unrecorded external call", external_calls, calls_recorded),
    Invariant("I9", "saga closed", saga_closed, unchecked="compensations: processes have none yet"),
    Invariant("I10", "money", money, unchecked="a ledger that sums to zero: there is no ledger of money yet"),
    Invariant("I11", "tenant wall", tenant_wall, tenant_wall),
    Invariant("I12", "audit", audit_kept, unchecked="the chain and its anchors: entries are not chained yet"),
    Invariant("I13", "convergence", convergence),
    Invariant("I14", "derived equals truth", derived_is_truth),
    Invariant("I15", "bounded", bounded),
    Invariant("I16", "no secret", no_secret),
)


def violations(oracle: Oracle) -> dict[str, list[str]]:
    """Check every invariant; return the violations by code, an empty list where one holds."""
    return {invariant.code: invariant.check(oracle) for invariant in INVARIANTS}


def violations_while_running(oracle: Oracle) -> dict[str, list[str]]:
    """Check what can be checked in the middle of a fault; return the violations by code."""
    return {invariant.code: invariant.running(oracle) for invariant in INVARIANTS if invariant.running}


def _violation(claim: str, rows: Sequence[dict[str, Any]], *columns: str) -> list[str]:
    return [f"{claim}: {names(rows, *columns)}"] if rows else []


def _amount(value: Any) -> Decimal:
    return Decimal(str(value or 0))


def _shown(amounts: Iterable[Decimal]) -> str:
    return " and ".join(format(amount, "f") for amount in amounts)
