-- depends: 0014_expand_configuration
-- Consumer groups beside the projection: parked events and dead letters, reactions, audit export, reconciliation, and
-- the shadow in which a projection is rebuilt.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

-- An event that could not be applied, and the events of its aggregate that wait behind it, so that the partition's
-- position can go on. queue_no is the order within an aggregate: the partition's position is locked while rows are added.
-- tenant_id is '?' where the event could not be read and so belongs to nobody.
CREATE TABLE cpq.consumer_parked_event (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    tenant_id text NOT NULL,
    aggregate_key text NOT NULL,
    queue_no bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid,
    record_key bytea,
    record_value bytea,
    header_names bytea [] NOT NULL,
    header_values bytea [] NOT NULL,
    state text NOT NULL CHECK (state IN ('retrying', 'waiting', 'dead', 'discarded')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    error_code text,
    error_category text,
    error_detail text,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, kafka_partition, kafka_offset)
);
CREATE INDEX consumer_parked_event_queue ON cpq.consumer_parked_event (consumer_group, topic, aggregate_key, queue_no);
CREATE INDEX consumer_parked_event_due ON cpq.consumer_parked_event (consumer_group, next_attempt_at)
WHERE state IN ('retrying', 'discarded');

-- What a group gave up on: kept for ever, published to <topic>.dlq under the same id as often as it takes.
CREATE TABLE cpq.dead_letter (
    dead_letter_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    aggregate_key text NOT NULL,
    event_id uuid,
    error_code text NOT NULL,
    error_category text NOT NULL,
    error_detail text NOT NULL,
    retry_count integer NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'replaying', 'replayed', 'discarded')),
    failed_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    reason text,
    operator text,
    published_at timestamptz,
    dlq_partition integer,
    dlq_offset bigint,
    publish_attempts integer NOT NULL DEFAULT 0,
    next_publish_at timestamptz NOT NULL DEFAULT now(),
    publish_error text,
    UNIQUE (consumer_group, topic, kafka_partition, kafka_offset)
);
CREATE INDEX dead_letter_unpublished ON cpq.dead_letter (consumer_group, next_publish_at) WHERE published_at IS NULL;
CREATE INDEX dead_letter_by_group ON cpq.dead_letter (consumer_group, state, failed_at DESC);

-- What an event asks to be done outside: written with the inbox row, carried out by a worker.
CREATE TABLE cpq.reaction (
    reaction_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    consumer_group text NOT NULL,
    kind text NOT NULL,
    order_id uuid NOT NULL,
    event_id uuid NOT NULL,
    step text NOT NULL,
    external_system text NOT NULL,
    request jsonb NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    runs integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    external_reference text,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (consumer_group, event_id)
);
CREATE INDEX reaction_due ON cpq.reaction (next_attempt_at) WHERE state = 'pending';
CREATE INDEX reaction_by_order ON cpq.reaction (order_id);

-- One chain of records per tenant; files are derived from the rows, so a file that is lost is written again.
CREATE TABLE cpq.audit_export_chain (
    tenant_id text PRIMARY KEY,
    last_sequence bigint NOT NULL,
    last_hash text NOT NULL
);
CREATE TABLE cpq.audit_export_record (
    tenant_id text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    event_id uuid NOT NULL UNIQUE,
    body text NOT NULL,
    hash text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, sequence)
);
CREATE TABLE cpq.audit_export_segment (
    tenant_id text NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL CHECK (last_sequence >= first_sequence),
    content_sha256 text NOT NULL,
    instance_id text NOT NULL,
    planned_at timestamptz NOT NULL DEFAULT now(),
    written_at timestamptz,
    PRIMARY KEY (tenant_id, first_sequence)
);

-- Which event a group of its own has seen at which place of an order, and what disagreed when it did.
CREATE TABLE cpq.reconciliation_event (
    order_id uuid NOT NULL,
    aggregate_seq bigint NOT NULL,
    tenant_id text NOT NULL,
    event_id uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, aggregate_seq)
);
CREATE TABLE cpq.reconciliation_finding (
    finding_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    kind text NOT NULL,
    order_id uuid NOT NULL,
    aggregate_seq bigint NOT NULL,
    event_id uuid NOT NULL,
    detail text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    UNIQUE (kind, event_id)
);
CREATE INDEX reconciliation_finding_open ON cpq.reconciliation_finding (found_at) WHERE resolved_at IS NULL;

CREATE TABLE cpq.projection_rebuild (
    rebuild_id uuid PRIMARY KEY,
    projection text NOT NULL,
    source text NOT NULL CHECK (source IN ('log', 'outbox')),
    state text NOT NULL CHECK (state IN ('building', 'switched', 'abandoned')),
    operator text NOT NULL,
    reason text NOT NULL,
    events bigint NOT NULL DEFAULT 0,
    checksum text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX projection_rebuild_one_building ON cpq.projection_rebuild (projection) WHERE state = 'building';
CREATE TABLE cpq.order_projection_shadow (
    rebuild_id uuid NOT NULL REFERENCES cpq.projection_rebuild,
    order_id uuid NOT NULL,
    tenant_id text NOT NULL,
    quote_id uuid,
    customer_id text,
    state text NOT NULL,
    applied_seq bigint NOT NULL,
    currency text,
    total_one_time numeric,
    total_recurring numeric,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (rebuild_id, order_id)
);

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'consumer_parked_event', 'dead_letter', 'reaction', 'audit_export_chain', 'audit_export_record',
        'audit_export_segment', 'reconciliation_event', 'reconciliation_finding', 'order_projection_shadow'
    ] LOOP
        EXECUTE format('ALTER TABLE cpq.%I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE cpq.%I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format(
            'CREATE POLICY tenant_wall ON cpq.%I TO cpq_api, cpq_worker, cpq_consumer '
            'USING (tenant_id = (SELECT cpq.current_tenant())) '
            'WITH CHECK (tenant_id = (SELECT cpq.current_tenant()))', table_name
        );
        EXECUTE format('CREATE POLICY admin_all ON cpq.%I TO cpq_admin USING (true) WITH CHECK (true)', table_name);
        EXECUTE format('CREATE POLICY observer_reads ON cpq.%I FOR SELECT TO cpq_observer USING (true)', table_name);
        EXECUTE format('CREATE POLICY owner_all ON cpq.%I TO cpq_owner USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END
$$;

-- A group finds its work of all tenants without the tenant being set: names only, the rows stay behind the wall.
CREATE FUNCTION cpq.parked_aggregates(reading_group text, of_topic text, keys text [])
RETURNS TABLE (aggregate_key text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT DISTINCT e.aggregate_key
    FROM cpq.consumer_parked_event AS e
    WHERE e.consumer_group = reading_group AND e.topic = of_topic AND e.aggregate_key = ANY(keys)
$$;

-- Only the first event of an aggregate's queue is ever retrying, dead or discarded.
CREATE FUNCTION cpq.due_parked_events(reading_group text, topics text [], partitions integer [], batch integer)
RETURNS TABLE (topic text, kafka_partition integer, kafka_offset bigint, tenant_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT e.topic, e.kafka_partition, e.kafka_offset, e.tenant_id
    FROM cpq.consumer_parked_event AS e
    INNER JOIN unnest(topics, partitions) AS own (topic, kafka_partition)
        ON e.topic = own.topic AND e.kafka_partition = own.kafka_partition
    WHERE e.consumer_group = reading_group AND e.state IN ('retrying', 'discarded') AND e.next_attempt_at <= now()
    ORDER BY e.next_attempt_at
    LIMIT batch
$$;

-- The row behind an event in its aggregate's queue, which may be another tenant's when the event could not be read.
CREATE FUNCTION cpq.next_parked_event(reading_group text, of_topic text, of_key text)
RETURNS TABLE (kafka_partition integer, kafka_offset bigint, tenant_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT e.kafka_partition, e.kafka_offset, e.tenant_id
    FROM cpq.consumer_parked_event AS e
    WHERE e.consumer_group = reading_group AND e.topic = of_topic AND e.aggregate_key = of_key
    ORDER BY e.queue_no
    LIMIT 1
$$;

CREATE FUNCTION cpq.unpublished_dead_letters(reading_group text, batch integer)
RETURNS TABLE (dead_letter_id uuid, tenant_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT d.dead_letter_id, d.tenant_id
    FROM cpq.dead_letter AS d
    WHERE d.consumer_group = reading_group AND d.published_at IS NULL AND d.next_publish_at <= now()
    ORDER BY d.next_publish_at
    LIMIT batch
$$;

-- `failing` counts what was set aside within the window and is not settled: the figure that the limit is held against.
CREATE FUNCTION cpq.consumer_group_state(reading_group text, limit_window interval)
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

CREATE FUNCTION cpq.due_reactions(batch integer)
RETURNS TABLE (reaction_id uuid, tenant_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT r.reaction_id, r.tenant_id
    FROM cpq.reaction AS r
    WHERE r.state = 'pending' AND r.next_attempt_at <= now()
    ORDER BY r.next_attempt_at
    LIMIT batch
$$;

-- Tenants with records in no segment yet: how many, and since when the oldest waits.
CREATE FUNCTION cpq.audit_export_backlog()
RETURNS TABLE (tenant_id text, records bigint, oldest_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT c.tenant_id, c.last_sequence - coalesce(s.last_sequence, 0), r.recorded_at
    FROM cpq.audit_export_chain AS c
    LEFT JOIN LATERAL (
        SELECT g.last_sequence FROM cpq.audit_export_segment AS g
        WHERE g.tenant_id = c.tenant_id ORDER BY g.first_sequence DESC LIMIT 1
    ) AS s ON TRUE
    INNER JOIN cpq.audit_export_record AS r
        ON r.tenant_id = c.tenant_id AND r.sequence = coalesce(s.last_sequence, 0) + 1
$$;

CREATE FUNCTION cpq.audit_export_segments_of(instance text)
RETURNS TABLE (tenant_id text, first_sequence bigint, last_sequence bigint, content_sha256 text, is_written boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT g.tenant_id, g.first_sequence, g.last_sequence, g.content_sha256, g.written_at IS NOT NULL
    FROM cpq.audit_export_segment AS g
    WHERE g.instance_id = instance
    ORDER BY g.tenant_id, g.first_sequence
$$;

REVOKE ALL ON FUNCTION cpq.parked_aggregates(text, text, text []) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.due_parked_events(text, text [], integer [], integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.next_parked_event(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.unpublished_dead_letters(text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.consumer_group_state(text, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.due_reactions(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.audit_export_backlog() FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.audit_export_segments_of(text) FROM PUBLIC;
