-- name: unpublished
-- Names of dead letters to publish, of whatever tenant.
SELECT dead_letter_id, tenant_id FROM cpq.unpublished_dead_letters(%(group)s, %(limit)s);

-- name: get
-- A dead letter with its event, as long as that is parked.
SELECT
    letter.*, parked.record_key, parked.record_value, parked.header_names, parked.header_values,
    parked.header_names IS NOT NULL AS is_parked
FROM cpq.dead_letter AS letter
LEFT JOIN cpq.consumer_parked_event AS parked USING (consumer_group, topic, kafka_partition, kafka_offset)
WHERE letter.dead_letter_id = %(dead_letter_id)s;

-- name: published
-- Acknowledged by the broker; a letter that was opened again since has a later failure to tell of.
UPDATE cpq.dead_letter
SET published_at = now(), dlq_partition = %(partition)s, dlq_offset = %(offset)s, publish_error = NULL
WHERE dead_letter_id = %(dead_letter_id)s AND failed_at = %(failed_at)s;

-- name: postpone
-- Not acknowledged.
UPDATE cpq.dead_letter
SET publish_attempts = publish_attempts + 1, next_publish_at = now() + %(delay)s, publish_error = %(reason)s
WHERE dead_letter_id = %(dead_letter_id)s AND failed_at = %(failed_at)s;

-- name: list
-- Newest first.
SELECT
    dead_letter_id, tenant_id, consumer_group, topic, kafka_partition, kafka_offset, aggregate_key, event_id,
    error_code, error_category, retry_count, state, failed_at, published_at, closed_at
FROM cpq.dead_letter
WHERE (%(group)s::text IS NULL OR consumer_group = %(group)s) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY failed_at DESC
LIMIT %(limit)s;

-- name: waiting
-- How many events wait behind a dead letter.
SELECT count(*) AS events
FROM cpq.consumer_parked_event AS parked
INNER JOIN cpq.dead_letter AS letter USING (consumer_group, topic, aggregate_key)
WHERE letter.dead_letter_id = %(dead_letter_id)s AND parked.state = 'waiting';

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
