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
