-- name: parked
-- Served by the index of unpublished events, of which there are few.
SELECT
    event.event_id, event.tenant_id, event.aggregate_type, event.aggregate_id, event.aggregate_seq, event.event_type,
    event.topic, event.attempts, event.last_error, event.occurred_at, behind.waiting_behind
FROM cpq.outbox_event AS event
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting_behind
    FROM cpq.outbox_event AS later
    WHERE later.aggregate_id = event.aggregate_id AND later.aggregate_seq > event.aggregate_seq
) AS behind
WHERE
    event.state <> 'published' AND event.state = 'parked'
    AND (%(tenant_id)s::text IS NULL OR event.tenant_id = %(tenant_id)s)
ORDER BY event.occurred_at, event.event_id
LIMIT %(limit)s;

-- name: prune
-- One window of rows in the order of the unique index, so that a batch costs the same whether or not it finds any. No row
-- in the answer means that the end is reached.
WITH looked AS MATERIALIZED (
    SELECT event_id, aggregate_id, aggregate_seq, state, published_at
    FROM cpq.outbox_event
    WHERE (aggregate_id, aggregate_seq) > (%(aggregate_id)s, %(aggregate_seq)s)
    ORDER BY aggregate_id, aggregate_seq
    LIMIT %(batch)s
),

deleted AS (
    DELETE FROM cpq.outbox_event AS event
    USING looked
    WHERE
        event.event_id = looked.event_id
        AND looked.state = 'published'
        AND looked.published_at < now() - %(older_than)s::interval
        AND EXISTS (
            SELECT
            FROM cpq.outbox_event AS newer
            WHERE
                newer.aggregate_id = looked.aggregate_id
                AND newer.aggregate_seq > looked.aggregate_seq
                AND newer.state = 'published'
        )
    RETURNING event.event_id
)

SELECT last.aggregate_id, last.aggregate_seq, (SELECT count(*) FROM deleted) AS deleted
FROM (SELECT aggregate_id, aggregate_seq FROM looked ORDER BY aggregate_id DESC, aggregate_seq DESC LIMIT 1) AS last;
