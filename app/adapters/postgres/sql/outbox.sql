-- name: append
-- Needs no right to read: the writers of events never look at what others wrote.
INSERT INTO cpq.outbox_event (
    event_id, tenant_id, aggregate_type, aggregate_id, aggregate_seq, event_type, topic, partition_key, payload,
    traceparent, shard, occurred_at
)
SELECT *
FROM unnest(
    %(event_ids)s::uuid [], %(tenant_ids)s::text [], %(aggregate_types)s::text [], %(aggregate_ids)s::uuid [],
    %(aggregate_seqs)s::bigint [], %(event_types)s::text [], %(topics)s::text [], %(partition_keys)s::text [],
    %(payloads)s::text [], %(traceparents)s::text [], %(shards)s::smallint [], %(occurred_ats)s::timestamptz []
);

-- name: wake
-- Delivered on commit; equal notifications of one transaction are delivered once.
SELECT pg_notify('outbox', '');

-- name: listen
-- The other end of wake.
LISTEN outbox;

-- name: take_over
-- An instance runs once: what its name still holds belongs to a process that is gone. The new fence outdates that one.
UPDATE cpq.relay_shard_lease
SET fence = fence + 1
WHERE owner = %(owner)s
RETURNING shard, fence;

-- name: enlist
-- This relay lives, and its colour works. Those that have not for a day are gone for good; until then nobody counts them either.
WITH gone AS (
    DELETE FROM cpq.relay_member WHERE owner <> %(owner)s AND expires_at < now() - INTERVAL '1 day'
)
INSERT INTO cpq.relay_member (owner, expires_at)
SELECT %(owner)s, now() + %(duration)s FROM cpq.hold_epoch()
ON CONFLICT (owner) DO UPDATE SET expires_at = excluded.expires_at;

-- name: resign
-- The others may share what this relay had.
DELETE FROM cpq.relay_member WHERE owner = %(owner)s;

-- name: share
-- By its place among those that live, so that all shares together are all shards: 6, 5 and 5 of 16 for three.
SELECT (all_shards.count / living.relays + (living.place <= mod(all_shards.count, living.relays))::integer)::integer AS shards
FROM (
    SELECT owner, row_number() OVER (ORDER BY owner) AS place, count(*) OVER () AS relays
    FROM cpq.relay_member
    WHERE expires_at > now()
) AS living
CROSS JOIN (SELECT count(*) FROM cpq.relay_shard_lease) AS all_shards
WHERE living.owner = %(owner)s;

-- name: renew
-- A lapsed lease nobody took is still ours: its fence has not moved.
UPDATE cpq.relay_shard_lease AS lease
SET expires_at = now() + %(duration)s
FROM unnest(%(shards)s::smallint [], %(fences)s::bigint []) AS held (shard, fence)
WHERE lease.shard = held.shard AND lease.fence = held.fence AND lease.owner = %(owner)s
RETURNING lease.shard, lease.fence;

-- name: acquire
-- Rows locked by another relay are being taken by it.
UPDATE cpq.relay_shard_lease AS lease
SET owner = %(owner)s, fence = lease.fence + 1, expires_at = now() + %(duration)s
FROM (
    SELECT shard
    FROM cpq.relay_shard_lease
    WHERE (owner IS NULL OR expires_at <= now()) AND shard <> ALL(%(shards)s::smallint [])
    ORDER BY shard
    LIMIT %(wanted)s
    FOR UPDATE SKIP LOCKED
) AS free
WHERE lease.shard = free.shard
RETURNING lease.shard, lease.fence;

-- name: release
-- Free at once for any other relay.
UPDATE cpq.relay_shard_lease AS lease
SET owner = NULL, expires_at = now()
FROM unnest(%(shards)s::smallint [], %(fences)s::bigint []) AS held (shard, fence)
WHERE lease.shard = held.shard AND lease.fence = held.fence AND lease.owner = %(owner)s;

-- name: claim
-- Of each aggregate only its lowest unpublished event, and only when its predecessor is published, or discarded by an
-- operator: one that is pending, parked, or not even visible yet holds back all that follow. Retention must keep each aggregate's newest row.
-- Refused when the relay's epoch is over: what it claims it sends.
SELECT
    due.event_id, due.tenant_id, due.aggregate_type, due.aggregate_id, due.aggregate_seq, due.event_type, due.topic,
    due.partition_key, due.payload, due.traceparent, due.occurred_at, due.attempts
FROM cpq.hold_epoch()
CROSS JOIN unnest(%(shards)s::smallint []) AS held (shard)
CROSS JOIN LATERAL (
    SELECT event.*
    FROM cpq.outbox_event AS event
    WHERE
        event.shard = held.shard
        AND event.state <> 'published'
        AND event.state = 'pending'
        AND event.next_attempt_at <= now()
        AND (
            event.aggregate_seq = 1
            OR EXISTS (
                SELECT
                FROM cpq.outbox_event AS predecessor
                WHERE
                    predecessor.aggregate_id = event.aggregate_id
                    AND predecessor.aggregate_seq = event.aggregate_seq - 1
                    AND predecessor.state IN ('published', 'discarded')
            )
        )
    ORDER BY event.aggregate_id, event.aggregate_seq
    LIMIT %(batch)s
) AS due
LIMIT %(batch)s;

-- name: lock_leases
-- Held until the outcomes are committed, so that no other relay can take the shard between the check and the write.
SELECT lease.shard
FROM cpq.relay_shard_lease AS lease
INNER JOIN unnest(%(shards)s::smallint [], %(fences)s::bigint []) AS held (shard, fence)
    ON lease.shard = held.shard AND lease.fence = held.fence
WHERE lease.owner = %(owner)s
FOR SHARE OF lease;

-- name: mark_published
-- Written once: a second relay's outcome for the same event changes nothing.
UPDATE cpq.outbox_event AS event
SET
    state = 'published', published_at = now(), attempts = event.attempts + 1, last_error = NULL,
    kafka_partition = outcome.kafka_partition, kafka_offset = outcome.kafka_offset
FROM unnest(%(event_ids)s::uuid [], %(partitions)s::integer [], %(offsets)s::bigint [])
    AS outcome (event_id, kafka_partition, kafka_offset)
WHERE event.event_id = outcome.event_id AND event.state = 'pending';

-- name: defer
-- Not now: the aggregate waits with its event, others go on.
UPDATE cpq.outbox_event AS event
SET attempts = event.attempts + 1, next_attempt_at = now() + outcome.retry_after, last_error = outcome.reason
FROM unnest(%(event_ids)s::uuid [], %(reasons)s::text [], %(retry_afters)s::interval [])
    AS outcome (event_id, reason, retry_after)
WHERE event.event_id = outcome.event_id AND event.state = 'pending';

-- name: park
-- Never as it is: an operator's repair decides; only this event's aggregate waits.
UPDATE cpq.outbox_event AS event
SET
    state = 'parked', attempts = event.attempts + 1, last_error = outcome.reason,
    refused_contract = outcome.refused_contract
FROM unnest(%(event_ids)s::uuid [], %(reasons)s::text [], %(contracts)s::text [])
    AS outcome (event_id, reason, refused_contract)
WHERE event.event_id = outcome.event_id AND event.state = 'pending';

-- name: judge_anew
-- While a release goes out, a relay of the old one may have refused what the new one's writers rightly say.
UPDATE cpq.outbox_event
SET state = 'pending', next_attempt_at = now(), refused_contract = NULL
WHERE
    shard = ANY(%(shards)s::smallint [])
    AND state <> 'published' AND state = 'parked'
    AND refused_contract <> %(contract)s;

-- name: backlog
-- Everything unpublished, parked events and those waiting behind them included.
SELECT
    count(*) AS events,
    coalesce(extract(EPOCH FROM now() - min(occurred_at)), 0)::double precision AS oldest_age_seconds,
    count(DISTINCT aggregate_id) FILTER (WHERE state = 'parked') AS parked_aggregates
FROM cpq.outbox_event
WHERE state <> 'published' AND state <> 'discarded';
