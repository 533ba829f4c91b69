"""Every invariant is seen to fail for each kind of violation it knows, and no other one fails with it unless it should."""

from __future__ import annotations

import pytest

from tests.faults.invariants import INVARIANTS, violations, violations_while_running
from tests.faults.oracle import Oracle

ORDER = "order-tenant-1"

# What is done to the sound world, which invariants must notice, and words of the failure text of the first of them.
PLANTED = [
    ("DELETE FROM product_order WHERE order_id = 'order-tenant-1'", "I1", "acknowledged orders are not in the database"),
    ("DELETE FROM quote WHERE quote_id = 'quote-tenant-1'", "I1", "acknowledged quotes are not in the database"),
    ("UPDATE quote SET state = 'approved' WHERE tenant_id = 'tenant-1'", "I1", "acknowledged changes are undone"),
    ("DELETE FROM journal WHERE operation = 'convert-quote'", "I2", "orders that nobody asked for"),
    ("UPDATE journal SET status = 409 WHERE operation = 'convert-quote'", "I2", "although every request was refused"),
    ("UPDATE journal SET intent = 'other' WHERE operation = 'create-quote'", "I2", "quotes that nobody asked for"),
    ("UPDATE journal SET status = 201, body = 'other' WHERE status IS NULL", "I3", "one key has several answers"),
    ("UPDATE quote SET customer_id = 'same', tenant_id = 'tenant-1'", "I3", "one intent made several quotes"),
    ("UPDATE product_order SET customer_id = 'same', tenant_id = 'tenant-1'", "I3", "one intent made several orders"),
    ("DELETE FROM outbox_event WHERE aggregate_seq = 2", "I4", "transitions without an event"),
    ("DELETE FROM order_transition WHERE aggregate_seq = 3", "I4", "events without what they tell of"),
    ("UPDATE outbox_event SET aggregate_seq = 7 WHERE aggregate_seq = 3", "I4", "sequences are not 1 to n"),
    ("UPDATE product_order SET aggregate_seq = 4", "I4", "the aggregate's sequence is not its last event's"),
    ("DELETE FROM topic_record WHERE aggregate_seq = 1", "I5", "events are not in their topic"),
    ("UPDATE topic_record SET event_id = 'stray' WHERE aggregate_seq = 1", "I5", "records that no outbox row stands for"),
    ("UPDATE topic_record SET payload = 'altered' WHERE aggregate_seq = 1", "I5", "records differ from their outbox row"),
    ("UPDATE topic_record SET tenant_id = 'tenant-2'", "I5", "records differ from their outbox row"),
    ("UPDATE outbox_event SET kafka_offset = 999", "I5", "outbox rows name a place where they are not"),
    ("DELETE FROM inbox_event WHERE event_id = 'event-order-tenant-1-2'", "I6", "events a group has not handled"),
    ("UPDATE inbox_event SET event_id = 'event-order-tenant-1-1'", "I6", "handled more than once"),
    ("DELETE FROM order_projection WHERE order_id = 'order-tenant-1'", "I6", "in the inbox without their effect"),
    ("UPDATE order_projection SET applied_seq = 2", "I6", "in the inbox without their effect"),
    ("UPDATE order_projection SET applied_seq = 4", "I6", "effects without their event in the inbox"),
    ("INSERT INTO expected VALUES ('forged', 'event-order-tenant-1-1')", "I6", "forged events that were handled"),
    ("DELETE FROM reaction WHERE tenant_id = 'tenant-1'", "I6", "events in the inbox without their reaction"),
    ("UPDATE reaction SET event_id = 'event-order-tenant-1-2'", "I6", "reactions without their event"),
    ("INSERT INTO reaction SELECT * FROM reaction", "I6", "events with several reactions"),
    ("DELETE FROM audit_export_record WHERE sequence = 3", "I6", "inbox of audit-export without their effect"),
    ("DELETE FROM inbox_event WHERE consumer_group = 'reconciliation'", "I6", "effects of reconciliation without"),
    ("INSERT INTO reconciliation_event SELECT * FROM reconciliation_event", "I6", "there more than once"),
    ("UPDATE topic_record SET kafka_offset = 100 - aggregate_seq", "I7", "not in order in the topic"),
    ("UPDATE topic_record SET kafka_partition = aggregate_seq", "I7", "in several partitions"),
    ("UPDATE inbox_event SET processed_at = '2025' WHERE event_id LIKE '%-3'", "I7", "not applied one after the other"),
    ("UPDATE external_call_attempt SET attempt_id = 'x', order_id = 'order-tenant-1', step = 's'", "I8", "its effect more than once"),
    ("DELETE FROM external_call_attempt WHERE tenant_id = 'tenant-1'", "I8", "effects without a recorded attempt"),
    ("DELETE FROM external_call_attempt WHERE attempt_no = 1", "I8", "a call without an attempt"),
    ("UPDATE external_call_attempt SET prepared_at = '2027'", "I8", "a call before its attempt was prepared"),
    ("DELETE FROM provider_request WHERE method = 'GET'", "I8", "repeated without asking"),
    ("DELETE FROM effect WHERE system = 'billing'", "I8", "completed steps whose effect is nowhere"),
    ("UPDATE reaction SET external_reference = 'nowhere'", "I8", "completed reactions whose effect is nowhere"),
    ("UPDATE fulfillment_task SET external_reference = NULL", "I8", "completed steps that know no reference"),
    ("UPDATE external_call_attempt SET state = 'unknown'", "I8", "a call whose end is unknown"),
    ("UPDATE engine_instance SET state = 'active'", "I9", "neither ended nor wait once"),
    ("UPDATE engine_instance SET order_id = 'order-tenant-1'", "I9", "several process instances"),
    ("UPDATE product_order SET state = 'inProgress'", "I9", "neither ended nor wait once"),
    ("DELETE FROM engine_instance WHERE order_id = 'order-tenant-1'", "I9", "references without their instance"),
    ("DELETE FROM workflow_reference WHERE order_id = 'order-tenant-1'", "I9", "instances without a reference"),
    ("UPDATE order_item SET total_one_time = '99.79'", "I10", "lines of product_order"),
    ("UPDATE product_offering_price SET unit_amount = '1'", "I10", "its price list says"),
    ("UPDATE effect SET request = '{\"totalOneTime\": \"1\", \"totalRecurring\": \"1\"}'", "I10", "billing was told"),
    ("UPDATE text SET tenant_id = 'tenant-2'", "I11", "a tenant's data at another"),
    ("UPDATE journal SET status = 200 WHERE operation = 'foreign-order'", "I11", "a foreign id was answered"),
    ("UPDATE journal SET body = 'not yours' WHERE operation = 'foreign-order'", "I11", "told from one that never was"),
    ("DELETE FROM audit_entry WHERE rowid = 2", "I12", "its audit entries tell of"),
    ("UPDATE audit_export_record SET body = replace(body, 'event-order-tenant-1-2', 'x')", "I12", "chain of tenant-1 is broken"),
    ("UPDATE audit_export_record SET sequence = 4 WHERE sequence = 3", "I12", "is broken at record 3"),
    ("INSERT INTO expected VALUES ('forged', 'never-buried')", "I13", "forged events that are no dead letters"),
    ("UPDATE reaction SET state = 'pending'", "I13", "reactions that are not done"),
    ("UPDATE convergence SET seconds = 31", "I13", "not at rest within the budget"),
    ("UPDATE convergence SET seconds = NULL", "I13", "not at rest within the budget"),
    ("UPDATE outbox_event SET state = 'pending' WHERE aggregate_seq = 3", "I13", "events that still wait"),
    ("UPDATE workflow_reference SET state = 'pending'", "I13", "still waits to be started"),
    ("UPDATE topic_record SET is_dead_letter = 1 WHERE aggregate_seq = 3", "I13", "unexpected dead letters"),
    ("UPDATE order_projection SET state = 'inProgress'", "I14", "read models differ"),
    ("INSERT INTO reconciliation_finding (kind, event_id) VALUES ('state-differs', 'e')", "I14", "found a disagreement"),
    ("UPDATE order_projection SET total_one_time = '1.00'", "I14", "read models differ"),
    ("UPDATE order_projection SET order_id = 'stray' WHERE tenant_id = 'tenant-1'", "I14", "read models"),
    ("UPDATE redis_entry SET unit_amount = '0.01'", "I14", "cached values differ"),
    ("UPDATE sample SET value = 401", "I15", "over its cap"),
    ("INSERT INTO crash VALUES ('relay', 'KafkaTimeoutError: Timeout')", "I15", "ended by an error of their own"),
    ("DELETE FROM sample", "I15", "never measured"),
    ("INSERT INTO secret_hit VALUES ('db-password', 'log of relay')", "I16", "a secret was found"),
    ("UPDATE secret_search SET characters = 0", "I16", "a place held nothing to search"),
    ("DELETE FROM secret_search", "I16", "no place was searched"),
]  # fmt: skip


def test_a_sound_world_violates_nothing(sound: Oracle) -> None:
    assert {code: lines for code, lines in violations(sound).items() if lines} == {}
    assert [invariant.code for invariant in INVARIANTS] == [f"I{number}" for number in range(1, 17)]


@pytest.mark.parametrize(("statement", "code", "words"), PLANTED)
def test_a_planted_violation_is_noticed(sound: Oracle, statement: str, code: str, words: str) -> None:
    assert sound.change(statement) > 0

    found = violations(sound)

    assert any(words in line for line in found[code]), found


def test_events_repeated_after_the_fault_was_over_are_noticed(sound: Oracle) -> None:
    sound.change("INSERT INTO topic_record SELECT * FROM topic_record WHERE aggregate_seq = 3")
    assert violations(sound)["I5"] == []  # within the fault a repetition is allowed

    sound.change("UPDATE outbox_event SET occurred_at = '2026-01-06' WHERE aggregate_seq = 3")

    assert "are repeated" in violations(sound)["I5"][0]


def test_an_announced_fallout_is_no_violation_and_an_unannounced_one_is(sound: Oracle) -> None:
    sound.change("UPDATE product_order SET state = 'inProgress', aggregate_seq = 3 WHERE order_id = ?", ORDER)
    sound.add("fallout_case", [{"order_id": ORDER, "tenant_id": "tenant-1", "state": "open"}])
    assert any("fallout that should not be" in line for line in violations(sound)["I9"])

    sound.add("expected", [{"name": "fallout", "item": ORDER}])

    assert violations(sound)["I9"] == []


@pytest.mark.parametrize(("mode", "is_definite"), [("error 429", True), ("error 408", False), ("error 503", False)])
def test_a_call_is_repeated_unasked_only_after_a_definite_answer(sound: Oracle, mode: str, is_definite: bool) -> None:
    sound.change("DELETE FROM provider_request WHERE method = 'GET'")
    sound.change("UPDATE provider_request SET mode = ?", mode)

    assert (violations(sound)["I8"] == []) is is_definite


def test_what_holds_in_the_middle_of_a_fault_is_checked_without_waiting(sound: Oracle) -> None:
    sound.change("UPDATE outbox_event SET state = 'pending' WHERE aggregate_seq = 3")
    sound.change("DELETE FROM topic_record WHERE aggregate_seq = 3")
    for table in ("inbox_event", "reaction", "audit_export_record", "reconciliation_event"):
        sound.change(f"DELETE FROM {table} WHERE event_id LIKE '%-3'")
    sound.change("UPDATE order_projection SET applied_seq = 2")
    found = violations_while_running(sound)
    assert set(found) == {"I1", "I3", "I6", "I8", "I11"}
    assert not any(found.values())

    sound.change("UPDATE order_projection SET applied_seq = 1")

    assert violations_while_running(sound)["I6"]


def test_an_unknown_column_is_refused(sound: Oracle) -> None:
    with pytest.raises(ValueError, match="quote has no column quoteId"):
        sound.add("quote", [{"quoteId": "q"}])
