-- name: try_lock
-- One rebuild at a time; the lock ends with the session.
SELECT pg_try_advisory_lock(hashtext('cpq.projection_rebuild')) AS is_mine;

-- name: abandon_leftovers
-- Whoever holds the lock knows that a rebuild still called building has died.
UPDATE cpq.projection_rebuild SET state = 'abandoned', finished_at = now() WHERE state = 'building';

-- name: open
-- Before anything is built.
INSERT INTO cpq.projection_rebuild (rebuild_id, projection, source, state, operator, reason)
VALUES (%(rebuild_id)s, 'order_projection', %(source)s, 'building', %(operator)s, %(reason)s);

-- name: clear
-- Only the shadow being built is kept.
DELETE FROM cpq.order_projection_shadow;

-- name: put
-- As in the projection that serves, a later state is never overwritten by an earlier one.
INSERT INTO cpq.order_projection_shadow AS shadow (
    rebuild_id, order_id, tenant_id, quote_id, customer_id, state, applied_seq, currency, total_one_time,
    total_recurring, updated_at
)
SELECT %(rebuild_id)s, snapshot.*
FROM unnest(
    %(order_ids)s::uuid [], %(tenant_ids)s::text [], %(quote_ids)s::uuid [], %(customer_ids)s::text [],
    %(states)s::text [], %(applied_seqs)s::bigint [], %(currencies)s::text [], %(totals_one_time)s::numeric [],
    %(totals_recurring)s::numeric [], %(updated_ats)s::timestamptz []
) AS snapshot
ON CONFLICT (rebuild_id, order_id) DO UPDATE
SET
    tenant_id = excluded.tenant_id, quote_id = excluded.quote_id, customer_id = excluded.customer_id,
    state = excluded.state, applied_seq = excluded.applied_seq, currency = excluded.currency,
    total_one_time = excluded.total_one_time, total_recurring = excluded.total_recurring,
    updated_at = excluded.updated_at
WHERE shadow.applied_seq < excluded.applied_seq;

-- name: outbox_batch
-- The latest event of each order that the shadow does not have yet. By aggregate, not by time: events commit in any order.
SELECT DISTINCT ON (event.aggregate_id) event.aggregate_id, event.payload
FROM cpq.outbox_event AS event
LEFT JOIN cpq.order_projection_shadow AS shadow
    ON shadow.rebuild_id = %(rebuild_id)s AND shadow.order_id = event.aggregate_id
WHERE
    event.topic = %(topic)s AND event.aggregate_id > %(after)s AND event.state <> 'discarded'
    AND event.aggregate_seq > coalesce(shadow.applied_seq, 0)
    AND (%(tenant_id)s::text IS NULL OR event.tenant_id = %(tenant_id)s)
ORDER BY event.aggregate_id, event.aggregate_seq DESC
LIMIT %(limit)s;

-- name: hold_writers
-- First in its transaction, so that the snapshot is taken when nobody writes the projection; readers go on.
LOCK TABLE cpq.order_projection IN SHARE ROW EXCLUSIVE MODE;

-- name: take_snapshot
-- A lock takes none: without this the first row read would, and see as published what the log's end came before.
SELECT pg_current_snapshot();

-- name: compare_shadow
-- An order whose next event is not published yet, or that went on while the log was read, is not held against the shadow.
WITH held AS (
    SELECT
        own.order_id::text AS id,
        concat_ws(
            '|', own.aggregate_seq, own.state, own.currency, trim_scale(own.total_one_time),
            trim_scale(own.total_recurring), own.customer_id, own.quote_id
        ) AS truth,
        concat_ws(
            '|', shadow.applied_seq, shadow.state, shadow.currency, trim_scale(shadow.total_one_time),
            trim_scale(shadow.total_recurring), shadow.customer_id, shadow.quote_id
        ) AS projected
    FROM cpq.product_order AS own
    LEFT JOIN cpq.order_projection_shadow AS shadow
        ON shadow.rebuild_id = %(rebuild_id)s AND shadow.order_id = own.order_id
    WHERE
        (%(tenant_id)s::text IS NULL OR own.tenant_id = %(tenant_id)s)
        AND coalesce(shadow.applied_seq, 0) <= own.aggregate_seq
        AND NOT EXISTS (
            SELECT FROM cpq.outbox_event AS event
            WHERE
                event.aggregate_id = own.order_id AND event.aggregate_seq = coalesce(shadow.applied_seq, 0) + 1
                AND event.state <> 'published'
        )
)
SELECT
    count(*) AS orders,
    coalesce(md5(string_agg(truth, E'\n' ORDER BY id)), '') AS orders_checksum,
    coalesce(md5(string_agg(projected, E'\n' ORDER BY id)), '') AS projection_checksum,
    coalesce(array_agg(id ORDER BY id) FILTER (WHERE truth <> projected), '{}') AS differing
FROM held;

-- name: compare_projection
-- Orders younger than the time that events take are left out; a projected order that does not exist is a difference.
WITH held AS (
    SELECT
        coalesce(own.order_id, projection.order_id)::text AS id,
        concat_ws(
            '|', own.aggregate_seq, own.state, own.currency, trim_scale(own.total_one_time),
            trim_scale(own.total_recurring), own.customer_id, own.quote_id
        ) AS truth,
        concat_ws(
            '|', projection.applied_seq, projection.state, projection.currency, trim_scale(projection.total_one_time),
            trim_scale(projection.total_recurring), projection.customer_id, projection.quote_id
        ) AS projected
    FROM cpq.product_order AS own
    FULL JOIN cpq.order_projection AS projection ON projection.order_id = own.order_id
    WHERE
        (%(tenant_id)s::text IS NULL OR coalesce(own.tenant_id, projection.tenant_id) = %(tenant_id)s)
        AND coalesce(own.updated_at, projection.updated_at) < now() - %(settle)s::interval
)
SELECT
    count(*) AS orders,
    coalesce(md5(string_agg(truth, E'\n' ORDER BY id)), '') AS orders_checksum,
    coalesce(md5(string_agg(projected, E'\n' ORDER BY id)), '') AS projection_checksum,
    coalesce(array_agg(id ORDER BY id) FILTER (WHERE truth <> projected), '{}') AS differing
FROM held;

-- name: remove
-- Rows that no event and no order speaks for.
DELETE FROM cpq.order_projection AS projection
WHERE
    (%(tenant_id)s::text IS NULL OR projection.tenant_id = %(tenant_id)s)
    AND NOT EXISTS (
        SELECT FROM cpq.order_projection_shadow AS shadow
        INNER JOIN cpq.product_order AS own ON own.order_id = shadow.order_id
        WHERE shadow.rebuild_id = %(rebuild_id)s AND shadow.order_id = projection.order_id
    );

-- name: replace
-- All rows as the shadow has them; one that is the same stays untouched.
INSERT INTO cpq.order_projection AS projection (
    order_id, tenant_id, quote_id, customer_id, state, applied_seq, currency, total_one_time, total_recurring, updated_at
)
SELECT
    shadow.order_id, shadow.tenant_id, shadow.quote_id, shadow.customer_id, shadow.state, shadow.applied_seq,
    shadow.currency, shadow.total_one_time, shadow.total_recurring, shadow.updated_at
FROM cpq.order_projection_shadow AS shadow
INNER JOIN cpq.product_order AS own ON own.order_id = shadow.order_id
WHERE shadow.rebuild_id = %(rebuild_id)s
ON CONFLICT (order_id) DO UPDATE
SET
    tenant_id = excluded.tenant_id, quote_id = excluded.quote_id, customer_id = excluded.customer_id,
    state = excluded.state, applied_seq = excluded.applied_seq, currency = excluded.currency,
    total_one_time = excluded.total_one_time, total_recurring = excluded.total_recurring,
    updated_at = excluded.updated_at
WHERE (projection.*) IS DISTINCT FROM (excluded.*);

-- name: switched
-- In the transaction of the switch.
UPDATE cpq.projection_rebuild
SET state = 'switched', events = %(events)s, checksum = %(checksum)s, finished_at = now()
WHERE rebuild_id = %(rebuild_id)s AND state = 'building';

-- name: abandon
-- Given up: the projection that serves was not touched.
UPDATE cpq.projection_rebuild SET state = 'abandoned', finished_at = now()
WHERE rebuild_id = %(rebuild_id)s AND state = 'building';
