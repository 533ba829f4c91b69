-- depends: 0017_expand_worker_repair
-- Partitions that rest until an operator decides, and events of the outbox that an operator decided not to publish.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

-- Why a partition rests, kept over restarts and rebalances. stored_offset is where the group's position was, NULL where it
-- had none: somebody who moves the position has decided.
CREATE TABLE cpq.consumer_halt (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    kafka_partition integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('position-lost', 'limit')),
    stored_offset bigint,
    reason text NOT NULL,
    halted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, kafka_partition)
);

-- As before, but while a partition rests because of the limit, its window does not move on: time alone settles nothing.
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
        count(*) FILTER (
            WHERE e.state IN ('retrying', 'dead') AND e.attempts > 0 AND e.parked_at > coalesce(
                (
                    SELECT min(h.halted_at) FROM cpq.consumer_halt AS h
                    WHERE h.consumer_group = reading_group AND h.kind = 'limit'
                ),
                now()
            ) - limit_window
        ),
        (SELECT count(*) FROM cpq.dead_letter AS d WHERE d.consumer_group = reading_group AND d.state = 'open'),
        (SELECT count(*) FROM cpq.dead_letter AS d WHERE d.consumer_group = reading_group AND d.published_at IS NULL)
    FROM cpq.consumer_parked_event AS e
    WHERE e.consumer_group = reading_group
$$;

-- Every row there is satisfies the wider rule, so nothing has to be read to know it.
-- squawk-ignore ban-drop-constraint
ALTER TABLE cpq.outbox_event DROP CONSTRAINT outbox_event_state_check;
ALTER TABLE cpq.outbox_event ADD CONSTRAINT outbox_event_state_known
CHECK (state IN ('pending', 'published', 'parked', 'discarded')) NOT VALID;
