-- depends: 0003_expand_quote
-- Product orders (TMF622 states), their transitions, fulfillment tasks, external call attempts and workflow references.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.product_order (
    order_id uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    quote_id uuid NOT NULL UNIQUE REFERENCES cpq.quote,
    version bigint NOT NULL DEFAULT 1,
    aggregate_seq bigint NOT NULL DEFAULT 0,
    state text NOT NULL
    CHECK (state IN (
        'acknowledged', 'rejected', 'pending', 'held', 'inProgress', 'cancelled', 'completed',
        'failed', 'partial', 'assessingCancellation', 'pendingCancellation'
    )),
    customer_id text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    catalog_version integer NOT NULL,
    total_one_time numeric NOT NULL CHECK (total_one_time >= 0 AND total_one_time < 1e15),
    total_recurring numeric NOT NULL CHECK (total_recurring >= 0 AND total_recurring < 1e15),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE cpq.order_item (
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    tenant_id text NOT NULL,
    item_no integer NOT NULL CHECK (item_no > 0),
    action text NOT NULL CHECK (action IN ('add', 'modify', 'delete', 'noChange')),
    offering_id text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    service_specification text NOT NULL,
    total_one_time numeric NOT NULL CHECK (total_one_time >= 0 AND total_one_time < 1e15),
    total_recurring numeric NOT NULL CHECK (total_recurring >= 0 AND total_recurring < 1e15),
    PRIMARY KEY (order_id, item_no)
);

-- One row per state change; aggregate_seq is the event's sequence too, so outbox and history can be joined.
CREATE TABLE cpq.order_transition (
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    tenant_id text NOT NULL,
    aggregate_seq bigint NOT NULL,
    from_state text,
    to_state text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, aggregate_seq)
);

CREATE TABLE cpq.fulfillment_task (
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    tenant_id text NOT NULL,
    step text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'inProgress', 'completed', 'failed', 'fallout')),
    run_count integer NOT NULL DEFAULT 0,
    external_reference text,
    last_error text,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, step)
);

-- Committed before the call goes out; outcome 'unknown' is resolved by a query to the external system, never by guessing.
CREATE TABLE cpq.external_call_attempt (
    attempt_id uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    step text NOT NULL,
    epoch integer NOT NULL DEFAULT 1,
    attempt_no integer NOT NULL,
    external_system text NOT NULL,
    idempotency_key text NOT NULL,
    request_sha256 text NOT NULL,
    state text NOT NULL CHECK (state IN ('prepared', 'succeeded', 'failed', 'unknown')),
    prepared_at timestamptz NOT NULL,
    finished_at timestamptz,
    response_status integer,
    external_reference text,
    error text,
    UNIQUE (order_id, step, epoch, attempt_no)
);

CREATE TABLE cpq.workflow_reference (
    order_id uuid PRIMARY KEY REFERENCES cpq.product_order,
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    process_id text NOT NULL,
    variables_schema_version integer NOT NULL,
    message_id text NOT NULL UNIQUE,
    state text NOT NULL CHECK (state IN ('pending', 'started', 'completed', 'failed')),
    start_attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    last_error text,
    process_instance_key bigint,
    requested_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX workflow_reference_due ON cpq.workflow_reference (next_attempt_at) WHERE state = 'pending';

CREATE TABLE cpq.fallout_case (
    fallout_id uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    step text NOT NULL,
    error_code text NOT NULL,
    detail text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'resolved')),
    opened_at timestamptz NOT NULL,
    resolved_at timestamptz
);
CREATE UNIQUE INDEX fallout_case_one_open ON cpq.fallout_case (order_id, step) WHERE state = 'open';
