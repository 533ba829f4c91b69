-- name: list
-- Newest first.
SELECT
    dead_letter_id, tenant_id, consumer_group, topic, kafka_partition, kafka_offset, aggregate_key, event_id,
    error_code, error_category, retry_count, state, failed_at, published_at, closed_at
FROM cpq.dead_letter
WHERE (%(group)s::text IS NULL OR consumer_group = %(group)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY failed_at DESC
LIMIT %(limit)s;

-- name: show
-- A dead letter with its event, as long as that is parked, and how many events wait behind it.
SELECT
    letter.*, parked.record_key, parked.record_value, parked.header_names, parked.header_values,
    parked.header_names IS NOT NULL AS is_parked,
    (
        SELECT count(*)
        FROM cpq.consumer_parked_event AS behind
        WHERE
            behind.consumer_group = letter.consumer_group AND behind.topic = letter.topic
            AND behind.aggregate_key = letter.aggregate_key AND behind.state = 'waiting'
    ) AS waiting_events
FROM cpq.dead_letter AS letter
LEFT JOIN cpq.consumer_parked_event AS parked USING (consumer_group, topic, kafka_partition, kafka_offset)
WHERE letter.dead_letter_id = %(dead_letter_id)s;

-- name: hold
-- One letter, until the transaction ends.
SELECT * FROM cpq.dead_letter WHERE dead_letter_id = %(dead_letter_id)s FOR UPDATE;

-- name: decide
-- An operator's decision.
UPDATE cpq.dead_letter
SET state = %(state)s, reason = %(reason)s, operator = %(operator)s, closed_at = CASE WHEN %(is_closed)s THEN now() END
WHERE dead_letter_id = %(dead_letter_id)s;

-- name: release
-- The consumer takes it up within its next pass.
UPDATE cpq.consumer_parked_event AS parked
SET state = %(parked_state)s, attempts = 0, next_attempt_at = now()
FROM cpq.dead_letter AS letter
WHERE
    letter.dead_letter_id = %(dead_letter_id)s AND parked.consumer_group = letter.consumer_group
    AND parked.topic = letter.topic AND parked.kafka_partition = letter.kafka_partition
    AND parked.kafka_offset = letter.kafka_offset AND parked.state = 'dead';
