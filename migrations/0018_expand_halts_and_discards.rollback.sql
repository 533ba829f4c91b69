SET lock_timeout = '4s';
ALTER TABLE cpq.outbox_event DROP CONSTRAINT outbox_event_state_known;
ALTER TABLE cpq.outbox_event ADD CONSTRAINT outbox_event_state_check
CHECK (state IN ('pending', 'published', 'parked')) NOT VALID;
CREATE OR REPLACE FUNCTION cpq.consumer_group_state(reading_group text, limit_window interval)
RETURNS TABLE (
    parked_aggregates bigint, parked_events bigint, oldest_parked_at timestamptz, failing bigint, dead_letters bigint,
    unpublished_dead_letters bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT
        count(*) FILTER (WHERE e.state <> 'waiting'),
        count(*),
        min(e.parked_at),
        count(*) FILTER (WHERE e.state IN ('retrying', 'dead') AND e.attempts > 0 AND e.parked_at > now() - limit_window),
        (SELECT count(*) FROM cpq.dead_letter AS d WHERE d.consumer_group = reading_group AND d.state = 'open'),
        (SELECT count(*) FROM cpq.dead_letter AS d WHERE d.consumer_group = reading_group AND d.published_at IS NULL)
    FROM cpq.consumer_parked_event AS e
    WHERE e.consumer_group = reading_group
$$;
DROP TABLE cpq.consumer_halt;
