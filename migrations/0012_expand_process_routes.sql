-- depends: 0009_expand_relay_membership
-- Which process version a business case gets, which choice was made for an order, which variables a worker understands,
-- and which versions are retired.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

-- A condition that is NULL holds for every case. Rows are never changed but for their removal, so a choice can be looked up.
CREATE TABLE cpq.process_route (
    route_id uuid PRIMARY KEY,
    business_process text NOT NULL,
    process_id text NOT NULL CHECK (starts_with(process_id, business_process || '-v')),
    priority integer NOT NULL CHECK (priority BETWEEN 0 AND 1000),
    tenant_id text REFERENCES cpq.tenant,
    order_type text CHECK (order_type IN ('add', 'modify', 'delete', 'mixed')),
    product_line text,
    catalog_from integer CHECK (catalog_from > 0),
    catalog_to integer CHECK (catalog_to >= coalesce(catalog_from, 1)),
    flag text,
    valid_from timestamptz NOT NULL DEFAULT now(),
    valid_to timestamptz CHECK (valid_to > valid_from),
    reason text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    removed_by text,
    removal_reason text,
    CHECK ((removed_at IS NULL) = (removed_by IS NULL) AND (removed_at IS NULL) = (removal_reason IS NULL))
);
CREATE UNIQUE INDEX process_route_one_per_case ON cpq.process_route (
    business_process, priority, coalesce(tenant_id, ''), coalesce(order_type, ''), coalesce(product_line, ''),
    coalesce(catalog_from, 0), coalesce(catalog_to, 0), coalesce(flag, '')
) WHERE removed_at IS NULL;

INSERT INTO cpq.process_route (route_id, business_process, process_id, priority, valid_from, reason, created_by)
VALUES (
    '01a20000-0000-7000-8000-000000000001', 'order-fulfillment', 'order-fulfillment-v1', 0, '2026-01-01T00:00:00Z',
    'the default for every order', 'migration'
);

CREATE TABLE cpq.process_retirement (
    process_id text PRIMARY KEY,
    reason text NOT NULL,
    retired_by text NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE cpq.workflow_reference
ADD COLUMN route_id uuid,
ADD COLUMN route_reason text;

-- Empty where an older release registered: then the one number beside it says all.
ALTER TABLE cpq.worker_registration ADD COLUMN variables_schema_versions integer [] NOT NULL DEFAULT '{}';

ALTER TABLE cpq.process_route ENABLE ROW LEVEL SECURITY;
ALTER TABLE cpq.process_route FORCE ROW LEVEL SECURITY;
-- A tenant sees its own routes and those for everybody.
CREATE POLICY tenant_wall ON cpq.process_route FOR SELECT TO cpq_api, cpq_worker, cpq_consumer
USING (tenant_id IS NULL OR tenant_id = (SELECT cpq.current_tenant()));
CREATE POLICY admin_all ON cpq.process_route TO cpq_admin USING (true) WITH CHECK (true);
CREATE POLICY observer_reads ON cpq.process_route FOR SELECT TO cpq_observer USING (true);
CREATE POLICY owner_all ON cpq.process_route TO cpq_owner USING (true) WITH CHECK (true);
