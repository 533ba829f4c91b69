-- name: positions
-- Where a group goes on; partitions it has never read have no row.
SELECT stored.topic, stored.kafka_partition, stored.next_offset
FROM cpq.consumer_offset AS stored
INNER JOIN unnest(%(topics)s::text [], %(partitions)s::integer []) AS asked (topic, kafka_partition)
    ON stored.topic = asked.topic AND stored.kafka_partition = asked.kafka_partition
WHERE stored.consumer_group = %(group)s;

-- name: begin
-- The first position of a partition.
INSERT INTO cpq.consumer_offset (consumer_group, topic, kafka_partition, next_offset)
VALUES (%(group)s, %(topic)s, %(partition)s, %(following)s)
ON CONFLICT (consumer_group, topic, kafka_partition) DO NOTHING;

-- name: advance
-- Only from where this consumer believes to be; the row stays locked until its effects are committed.
UPDATE cpq.consumer_offset
SET next_offset = %(following)s, updated_at = now()
WHERE
    consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s
    AND next_offset = %(expected)s;

-- name: hold
-- Nobody else works on the partition's events until the transaction ends.
SELECT next_offset FROM cpq.consumer_offset
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s
FOR UPDATE;

-- name: add
-- Returns the events not seen before.
INSERT INTO cpq.inbox_event (consumer_group, event_id, tenant_id, topic, kafka_partition, kafka_offset)
SELECT %(group)s, entry.event_id, %(tenant_id)s, entry.topic, entry.kafka_partition, entry.kafka_offset
FROM unnest(%(event_ids)s::uuid [], %(topics)s::text [], %(partitions)s::integer [], %(offsets)s::bigint [])
    AS entry (event_id, topic, kafka_partition, kafka_offset)
ON CONFLICT (consumer_group, event_id) DO NOTHING
RETURNING event_id;

-- name: halts
-- Which partitions wait for an operator.
SELECT halt.topic, halt.kafka_partition, halt.kind, halt.stored_offset, halt.reason
FROM cpq.consumer_halt AS halt
INNER JOIN unnest(%(topics)s::text [], %(partitions)s::integer []) AS asked (topic, kafka_partition)
    ON halt.topic = asked.topic AND halt.kafka_partition = asked.kafka_partition
WHERE halt.consumer_group = %(group)s;

-- name: halt
-- The first reason stays until an operator decides.
INSERT INTO cpq.consumer_halt (consumer_group, topic, kafka_partition, kind, stored_offset, reason)
VALUES (%(group)s, %(topic)s, %(partition)s, %(kind)s, %(stored)s, %(reason)s)
ON CONFLICT (consumer_group, topic, kafka_partition) DO NOTHING;

-- name: lift
-- An operator decided.
DELETE FROM cpq.consumer_halt
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s;
