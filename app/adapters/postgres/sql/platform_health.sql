-- name: database
-- Room for connections and whether this server takes writes.
SELECT
    pg_is_in_recovery() AS is_standby,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS allowed,
    (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)::integer AS used;

-- name: lock_waits
-- Sessions that wait for a lock longer than allowed.
SELECT count(DISTINCT pid)::integer AS waiting, coalesce(max(extract(epoch FROM now() - waitstart)), 0)::float AS longest_seconds
FROM pg_locks
WHERE NOT granted AND waitstart < now() - %(longer_than)s::interval;

-- name: outbox
-- Events committed and not published.
SELECT count(*)::integer AS backlog FROM cpq.outbox_event WHERE state <> 'published' AND state <> 'discarded';

-- name: open_fallout
-- Cases that wait for a person.
SELECT count(*)::integer AS open FROM cpq.fallout_case WHERE state = 'open';

-- name: orders_ended
-- How orders ended since a moment.
SELECT
    (SELECT count(*) FROM cpq.order_transition WHERE to_state = 'completed' AND occurred_at >= %(since)s)::integer AS completed,
    (SELECT count(DISTINCT order_id) FROM (
        SELECT order_id FROM cpq.order_transition WHERE to_state = 'failed' AND occurred_at >= %(since)s
        UNION ALL
        SELECT order_id FROM cpq.fallout_case WHERE opened_at >= %(since)s
    ) AS ended)::integer AS failed;

-- name: now
-- The database's clock, by which everything stored is dated.
SELECT now() AS now;
