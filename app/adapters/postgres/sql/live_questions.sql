-- name: live_orders
-- Orders whose process is pending or alive, the oldest first.
WITH found AS MATERIALIZED (
    SELECT order_id AS id, requested_at AS at FROM cpq.workflow_reference
    WHERE state IN ('pending', 'started') AND process_id = ANY(%(names)s)
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: pending_orders
-- Orders whose process has not been started yet.
WITH found AS MATERIALIZED (
    SELECT order_id AS id, requested_at AS at FROM cpq.workflow_reference
    WHERE state = 'pending' AND process_id = ANY(%(names)s)
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: events_on_topics
-- Events on topics, whether they were published or wait.
WITH found AS MATERIALIZED (
    SELECT event_id AS id, occurred_at AS at FROM cpq.outbox_event WHERE topic = ANY(%(names)s)
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: waiting_events
-- Events of topics that are still to be published, and those that a consumer group has put aside and may take again.
WITH found AS MATERIALIZED (
    SELECT event_id AS id, occurred_at AS at FROM cpq.outbox_event
    WHERE topic = ANY(%(names)s) AND state <> 'published' AND state <> 'discarded'
    UNION ALL
    SELECT event_id AS id, next_attempt_at AS at FROM cpq.consumer_parked_event
    WHERE topic = ANY(%(names)s) AND state <> 'discarded'
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT coalesce(id::text, 'without an id') FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: events_of_types
-- Events of types, whether they were published or wait.
WITH found AS MATERIALIZED (
    SELECT event_id AS id, occurred_at AS at FROM cpq.outbox_event WHERE event_type = ANY(%(names)s)
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: events_with_values
-- Events that have one of some values in a field.
WITH found AS MATERIALIZED (
    SELECT event_id AS id, occurred_at AS at FROM cpq.outbox_event
    WHERE payload::jsonb ->> %(field)s::text = ANY(%(names)s)
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: states
-- Orders that are or were, and quotes that are, in states.
WITH found AS MATERIALIZED (
    SELECT id, min(at) AS at FROM (
        SELECT order_id AS id, updated_at AS at FROM cpq.product_order WHERE state = ANY(%(names)s)
        UNION ALL
        SELECT order_id AS id, occurred_at AS at FROM cpq.order_transition WHERE to_state = ANY(%(names)s)
        UNION ALL
        SELECT quote_id AS id, updated_at AS at FROM cpq.quote WHERE state = ANY(%(names)s)
    ) AS one
    GROUP BY id
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;

-- name: open_steps
-- Orders that are under way and have a step to do, a call without an outcome, or a callback that came before its call was known.
WITH under_way AS MATERIALIZED (
    SELECT order_id FROM cpq.workflow_reference WHERE state IN ('pending', 'started')
), found AS MATERIALIZED (
    SELECT id, min(at) AS at FROM (
        SELECT order_id AS id, t.updated_at AS at
        FROM cpq.fulfillment_task AS t JOIN under_way USING (order_id)
        WHERE t.step = ANY(%(names)s) AND t.state NOT IN ('completed', 'cancelled')
        UNION ALL
        SELECT a.order_id AS id, a.prepared_at AS at
        FROM cpq.external_call_attempt AS a
        WHERE a.step = ANY(%(names)s) AND a.state IN ('prepared', 'unknown')
        UNION ALL
        SELECT a.order_id AS id, c.received_at AS at
        FROM cpq.external_callback AS c
        JOIN cpq.external_call_attempt AS a USING (order_id, idempotency_key)
        WHERE a.step = ANY(%(names)s) AND c.disposition = 'early'
    ) AS one
    GROUP BY id
)

SELECT
    (SELECT count(*) FROM found) AS count,
    ARRAY(SELECT id::text FROM found ORDER BY at, id LIMIT %(named)s) AS ids;
