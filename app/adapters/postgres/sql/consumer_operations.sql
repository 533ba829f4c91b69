-- name: halts
-- Partitions that wait for an operator, the oldest first.
SELECT consumer_group, topic, kafka_partition, kind, stored_offset, reason, halted_at
FROM cpq.consumer_halt
WHERE %(group)s::text IS NULL OR consumer_group = %(group)s
ORDER BY halted_at, consumer_group, topic, kafka_partition;

-- name: lift_limit
-- The limit concerns a group, not a partition.
DELETE FROM cpq.consumer_halt
WHERE consumer_group = %(group)s AND kind = 'limit'
RETURNING topic, kafka_partition;

-- name: positions
-- Where a topic's groups go on.
SELECT consumer_group, kafka_partition, next_offset FROM cpq.consumer_offset WHERE topic = %(topic)s;

-- name: move
-- A consumer that works on the partition notices it with its next batch.
INSERT INTO cpq.consumer_offset (consumer_group, topic, kafka_partition, next_offset)
VALUES (%(group)s, %(topic)s, %(partition)s, %(offset)s)
ON CONFLICT (consumer_group, topic, kafka_partition) DO UPDATE
SET next_offset = excluded.next_offset, updated_at = now();

-- name: lift
-- Whoever moves a position has decided, also where it is the same as before.
DELETE FROM cpq.consumer_halt
WHERE consumer_group = %(group)s AND topic = %(topic)s AND kafka_partition = %(partition)s;

-- name: relays
-- Relays that may publish now.
SELECT owner FROM cpq.relay_member WHERE expires_at > now() ORDER BY owner;
