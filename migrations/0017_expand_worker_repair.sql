-- depends: 0016_expand_external_systems
-- What workers leave behind when they die, and what people decide about steps that fell out.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

-- The epoch is part of a step's idempotency key; a person may begin a new one, by a rule. A cancelled step is not done and
-- will not be. Every row there is satisfies the wider rule, so nothing has to be read to know it.
ALTER TABLE cpq.fulfillment_task ADD COLUMN epoch integer NOT NULL DEFAULT 1;
-- squawk-ignore ban-drop-constraint
ALTER TABLE cpq.fulfillment_task DROP CONSTRAINT fulfillment_task_state_check;
ALTER TABLE cpq.fulfillment_task ADD CONSTRAINT fulfillment_task_state_known
CHECK (state IN ('pending', 'inProgress', 'completed', 'failed', 'fallout', 'cancelled')) NOT VALID;

-- A case is resolved by the decision; its job waits in the engine until engine_released_at.
ALTER TABLE cpq.fallout_case
ADD COLUMN decision text,
ADD COLUMN decided_by text,
ADD COLUMN decision_reason text,
ADD COLUMN evidence text,
ADD COLUMN engine_released_at timestamptz;

-- Which worker process took which job last, while its order is in fulfillment: started anew, it hands back what it held.
CREATE TABLE cpq.held_job (
    order_id uuid NOT NULL REFERENCES cpq.product_order,
    tenant_id text NOT NULL,
    step text NOT NULL,
    job_key bigint NOT NULL,
    retries integer NOT NULL,
    instance_id text NOT NULL,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, step)
);
CREATE INDEX held_job_by_instance ON cpq.held_job (instance_id, taken_at);
ALTER TABLE cpq.held_job ENABLE ROW LEVEL SECURITY;
ALTER TABLE cpq.held_job FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON cpq.held_job TO cpq_api, cpq_worker, cpq_consumer
USING (tenant_id = (SELECT cpq.current_tenant()))
WITH CHECK (tenant_id = (SELECT cpq.current_tenant()));
CREATE POLICY admin_all ON cpq.held_job TO cpq_admin USING (true) WITH CHECK (true);
CREATE POLICY observer_reads ON cpq.held_job FOR SELECT TO cpq_observer USING (true);
CREATE POLICY owner_all ON cpq.held_job TO cpq_owner USING (true) WITH CHECK (true);

-- Keys of jobs and no more: a worker that starts knows no tenant yet. One that stopped as it should took its registration
-- along and left no job behind.
CREATE FUNCTION cpq.jobs_held_by(instance text, since timestamptz)
RETURNS TABLE (job_key bigint, retries integer)
LANGUAGE sql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT h.job_key, h.retries FROM cpq.held_job AS h
    WHERE
        h.instance_id = instance AND h.taken_at > since
        AND EXISTS (SELECT FROM cpq.worker_registration AS r WHERE r.instance_id = instance)
$$;
REVOKE ALL ON FUNCTION cpq.jobs_held_by(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cpq.jobs_held_by(text, timestamptz) TO cpq_worker;

-- How many steps wait for a person, for the metrics: counts, no tenant, no order.
CREATE FUNCTION cpq.open_fallout()
RETURNS TABLE (step text, cases bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT f.step, count(*) FROM cpq.fallout_case AS f WHERE f.state = 'open' GROUP BY f.step
$$;
REVOKE ALL ON FUNCTION cpq.open_fallout() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cpq.open_fallout() TO cpq_worker;
