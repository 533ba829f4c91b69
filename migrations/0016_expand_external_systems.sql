-- depends: 0015_expand_consumers
-- What all processes together know of each external system: its circuit breaker and its rate. And what systems call back.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

-- Not tenant data: one row per system. Processes change it by the two functions below, operators by an audited command.
CREATE TABLE cpq.external_system_guard (
    external_system text PRIMARY KEY,
    state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
    -- Counts the changes of state: what becomes of a call that was let out before the last one is no longer of interest.
    generation bigint NOT NULL DEFAULT 1,
    -- Failed calls in a row, and calls let out since one last succeeded.
    failures integer NOT NULL DEFAULT 0,
    unproven integer NOT NULL DEFAULT 0,
    admitted_at timestamptz,
    open_until timestamptz,
    probe_until timestamptz,
    -- The system's own wish for a pause.
    hold_until timestamptz,
    -- When the next call would arrive at the steady rate (generic cell rate algorithm).
    next_arrival_at timestamptz NOT NULL DEFAULT '-infinity',
    last_error text,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- May a call go out now? If not: why, and after which time to ask again. `must_report`: whoever calls has to say how it went.
CREATE FUNCTION cpq.admit_external_call(
    system text, call_interval interval, burst integer, unproven_limit integer, patience interval,
    OUT verdict text, OUT retry_after interval, OUT call_generation bigint, OUT must_report boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
DECLARE
    guard cpq.external_system_guard;
    instant timestamptz;
BEGIN
    -- A crash of the server may forget the last moment of counting; for that no call waits for the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO guard FROM external_system_guard WHERE external_system = system FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO external_system_guard (external_system) VALUES (system) ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT guard FROM external_system_guard WHERE external_system = system FOR UPDATE;
    END IF;
    instant := clock_timestamp();
    must_report := false;
    IF guard.hold_until > instant THEN
        verdict := 'held';
        retry_after := guard.hold_until - instant;
    ELSIF guard.state = 'open' AND guard.open_until > instant THEN
        verdict := 'open';
        retry_after := guard.open_until - instant;
    ELSIF guard.state = 'half_open' AND guard.probe_until > instant THEN
        verdict := 'probing';
        retry_after := guard.probe_until - instant;
    ELSIF guard.next_arrival_at - call_interval * (burst - 1) > instant THEN
        verdict := 'rate';
        retry_after := guard.next_arrival_at - call_interval * (burst - 1) - instant;
    ELSIF guard.state = 'closed' AND guard.unproven >= unproven_limit AND guard.admitted_at > instant - patience THEN
        -- One of them will come back soon, or all of them fail.
        verdict := 'unproven';
        retry_after := interval '50 milliseconds';
    ELSE
        verdict := 'admitted';
        IF guard.state = 'closed' THEN
            -- Calls that nobody heard of for so long died with their process.
            guard.unproven := CASE WHEN guard.admitted_at > instant - patience THEN guard.unproven + 1 ELSE 1 END;
        ELSE
            -- The time of an open breaker is over, or a probe was lost: this one call tries.
            guard.state := 'half_open';
            guard.generation := guard.generation + 1;
            guard.probe_until := instant + patience;
            guard.changed_at := instant;
        END IF;
        must_report := guard.state <> 'closed' OR guard.failures > 0 OR guard.unproven * 2 > unproven_limit;
        UPDATE external_system_guard SET
            state = guard.state, generation = guard.generation, unproven = guard.unproven, admitted_at = instant,
            probe_until = guard.probe_until, changed_at = guard.changed_at,
            next_arrival_at = greatest(guard.next_arrival_at, instant) + call_interval
        WHERE external_system = system;
    END IF;
    call_generation := guard.generation;
END
$$;

-- How an admitted call went: 'succeeded', 'failed', or 'neutral' for a query, which proves little. Answers the breaker's state.
CREATE FUNCTION cpq.settle_external_call(
    system text, admitted_generation bigint, outcome text, failure_limit integer, open_for interval, hold_for interval,
    error text
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
DECLARE
    guard cpq.external_system_guard;
    instant timestamptz;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO STRICT guard FROM external_system_guard WHERE external_system = system FOR UPDATE;
    instant := clock_timestamp();
    IF hold_for IS NOT NULL THEN
        guard.hold_until := greatest(guard.hold_until, instant + hold_for);
    END IF;
    IF guard.generation = admitted_generation THEN
        IF outcome = 'succeeded' THEN
            guard.failures := 0;
            guard.unproven := 0;
            IF guard.state = 'half_open' THEN
                guard.state := 'closed';
                guard.generation := guard.generation + 1;
                guard.changed_at := instant;
            END IF;
        ELSIF outcome = 'failed' THEN
            guard.failures := guard.failures + 1;
            guard.last_error := left(error, 500);
            IF guard.state = 'half_open' OR guard.failures >= failure_limit THEN
                guard.state := 'open';
                guard.generation := guard.generation + 1;
                guard.open_until := instant + open_for;
                guard.unproven := 0;
                guard.changed_at := instant;
            END IF;
        ELSE
            guard.unproven := greatest(guard.unproven - 1, 0);
            guard.probe_until := instant;
        END IF;
    END IF;
    UPDATE external_system_guard SET
        state = guard.state, generation = guard.generation, failures = guard.failures, unproven = guard.unproven,
        open_until = guard.open_until, probe_until = guard.probe_until, hold_until = guard.hold_until,
        last_error = guard.last_error, changed_at = guard.changed_at
    WHERE external_system = system;
    RETURN guard.state;
END
$$;

REVOKE ALL ON FUNCTION cpq.admit_external_call(text, interval, integer, integer, interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION cpq.settle_external_call(text, bigint, text, integer, interval, interval, text) FROM PUBLIC;

-- What a system called back, once per its own identifier. The first of a key that came in time decides the call.
CREATE TABLE cpq.external_callback (
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    external_system text NOT NULL,
    callback_id text NOT NULL,
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    idempotency_key text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'failed')),
    external_reference text NOT NULL,
    detail text NOT NULL,
    body_sha256 text NOT NULL,
    disposition text NOT NULL CHECK (disposition IN ('matched', 'early', 'late', 'surplus')),
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, external_system, callback_id)
);
CREATE UNIQUE INDEX external_callback_one_decides ON cpq.external_callback (tenant_id, external_system, idempotency_key)
WHERE disposition IN ('matched', 'early');

ALTER TABLE cpq.external_callback ENABLE ROW LEVEL SECURITY;
ALTER TABLE cpq.external_callback FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON cpq.external_callback TO cpq_worker, cpq_callback
USING (tenant_id = (SELECT cpq.current_tenant())) WITH CHECK (tenant_id = (SELECT cpq.current_tenant()));
CREATE POLICY admin_all ON cpq.external_callback TO cpq_admin USING (true) WITH CHECK (true);
CREATE POLICY observer_reads ON cpq.external_callback FOR SELECT TO cpq_observer USING (true);
CREATE POLICY owner_all ON cpq.external_callback TO cpq_owner USING (true) WITH CHECK (true);

-- The receiver looks up whose call it is and writes the audit, of the tenant named in the URL and no other.
CREATE POLICY callback_wall ON cpq.external_call_attempt FOR SELECT TO cpq_callback
USING (tenant_id = (SELECT cpq.current_tenant()));
CREATE POLICY callback_wall ON cpq.product_order FOR SELECT TO cpq_callback
USING (tenant_id = (SELECT cpq.current_tenant()));
CREATE POLICY callback_wall ON cpq.audit_entry FOR INSERT TO cpq_callback
WITH CHECK (tenant_id = (SELECT cpq.current_tenant()));
-- Callbacks and the comparison with the systems look for calls by their key.
CREATE INDEX external_call_attempt_by_key ON cpq.external_call_attempt (idempotency_key);
