-- depends: 0004_expand_order
-- Outbox, relay leases, inbox, consumer offsets, dead letters and the order projection.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.outbox_event (
    event_id uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    aggregate_type text NOT NULL,
    aggregate_id uuid NOT NULL,
    aggregate_seq bigint NOT NULL CHECK (aggregate_seq > 0),
    event_type text NOT NULL,
    topic text NOT NULL,
    partition_key text NOT NULL,
    payload text NOT NULL,
    traceparent text,
    shard integer NOT NULL CHECK (shard >= 0 AND shard < 16),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'published', 'parked')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    occurred_at timestamptz NOT NULL,
    published_at timestamptz,
    kafka_partition integer,
    kafka_offset bigint,
    UNIQUE (aggregate_id, aggregate_seq)
);
-- Order within an aggregate is aggregate_seq; nothing here depends on a global sequence, which is not commit order.
CREATE INDEX outbox_event_unpublished ON cpq.outbox_event (shard, aggregate_id, aggregate_seq)
WHERE state <> 'published';

CREATE TABLE cpq.relay_shard_lease (
    shard integer PRIMARY KEY CHECK (shard >= 0 AND shard < 16),
    owner text,
    fence bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO cpq.relay_shard_lease (shard) SELECT generate_series(0, 15);

CREATE TABLE cpq.inbox_event (
    consumer_group text NOT NULL,
    event_id uuid NOT NULL,
    tenant_id text NOT NULL,
    topic text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, event_id)
);

CREATE TABLE cpq.consumer_offset (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    kafka_partition integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, kafka_partition)
);

CREATE TABLE cpq.order_projection (
    order_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    quote_id uuid,
    customer_id text,
    state text NOT NULL,
    applied_seq bigint NOT NULL,
    currency text,
    total_one_time numeric,
    total_recurring numeric,
    updated_at timestamptz NOT NULL
);
CREATE INDEX order_projection_by_tenant ON cpq.order_projection (tenant_id, updated_at DESC);
