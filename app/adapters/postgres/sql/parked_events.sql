-- name: among
-- Aggregates of a topic with events set aside, of whatever tenant.
SELECT aggregate_key FROM cpq.parked_aggregates(%(group)s, %(topic)s, %(keys)s::text []);

-- name: due
-- Events whose next try is due, or that an operator discarded, in these partitions.
SELECT topic, kafka_partition, kafka_offset, tenant_id
FROM cpq.due_parked_events(%(group)s, %(topics)s::text [], %(partitions)s::integer [], %(limit)s);

-- name: add
-- The identity column gives the place in the queue; the partition's position is locked.
INSERT INTO cpq.consumer_parked_event (
    consumer_group, topic, kafka_partition, kafka_offset, tenant_id, aggregate_key, event_id, record_key, record_value,
    header_names, header_values, state, attempts, next_attempt_at, error_code, error_category, error_detail
) VALUES (
    %(group)s, %(topic)s, %(partition)s, %(offset)s, %(tenant_id)s, %(aggregate_key)s, %(event_id)s, %(key)s, %(value)s,
    %(header_names)s::bytea [], %(header_values)s::bytea [], %(state)s, %(attempts)s,
    now() + %(retry_after)s, %(error_code)s, %(error_category)s, %(error_detail)s
)
ON CONFLICT (consumer_group, topic, kafka_partition, kafka_offset) DO NOTHING;

-- name: get
-- One event, locked.
SELECT * FROM cpq.consumer_parked_event
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s AND kafka_offset = %(offset)s
FOR UPDATE;

-- name: fail
-- One more failed try.
UPDATE cpq.consumer_parked_event
SET
    attempts = attempts + 1, next_attempt_at = now() + %(retry_after)s, error_code = %(error_code)s,
    error_category = %(error_category)s, error_detail = %(error_detail)s
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s AND kafka_offset = %(offset)s;

-- name: die
-- Given up on: its aggregate waits for an operator.
UPDATE cpq.consumer_parked_event
SET
    state = 'dead', attempts = %(attempts)s, error_code = %(error_code)s, error_category = %(error_category)s,
    error_detail = %(error_detail)s
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s AND kafka_offset = %(offset)s;

-- name: open_dead_letter
-- An event that fails again after its replay keeps its dead letter's id and is published once more.
INSERT INTO cpq.dead_letter AS letter (
    dead_letter_id, tenant_id, consumer_group, topic, kafka_partition, kafka_offset, aggregate_key, event_id,
    error_code, error_category, error_detail, retry_count, state
) VALUES (
    %(dead_letter_id)s, %(tenant_id)s, %(group)s, %(topic)s, %(partition)s, %(offset)s, %(aggregate_key)s, %(event_id)s,
    %(error_code)s, %(error_category)s, %(error_detail)s, %(retry_count)s, 'open'
)
ON CONFLICT (consumer_group, topic, kafka_partition, kafka_offset) DO UPDATE
SET
    error_code = excluded.error_code, error_category = excluded.error_category, error_detail = excluded.error_detail,
    retry_count = letter.retry_count + excluded.retry_count + 1, state = 'open', failed_at = now(), closed_at = NULL,
    published_at = NULL, publish_attempts = 0, next_publish_at = now();

-- name: remove
-- Applied, or left out on purpose.
DELETE FROM cpq.consumer_parked_event
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s AND kafka_offset = %(offset)s;

-- name: close_dead_letter
-- The end of a dead letter, if there is one for the event.
UPDATE cpq.dead_letter
SET state = %(state)s, closed_at = now()
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s AND kafka_offset = %(offset)s;

-- name: next
-- Which event is first in an aggregate's queue now.
SELECT kafka_partition, kafka_offset, tenant_id FROM cpq.next_parked_event(%(group)s, %(topic)s, %(aggregate_key)s);

-- name: promote
-- The first of a queue is tried at once.
UPDATE cpq.consumer_parked_event
SET state = 'retrying', next_attempt_at = now()
WHERE
    consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s AND kafka_offset = %(offset)s
    AND state = 'waiting';

-- name: state
-- What the group has set aside.
SELECT * FROM cpq.consumer_group_state(%(group)s, %(window)s);
