-- Fails when a step cannot be cancelled, or may be in a state nobody knows. The row vanishes with the inner block.
DO $$
DECLARE
    known text;
BEGIN
    SELECT pg_get_constraintdef(oid) INTO known
    FROM pg_constraint
    WHERE conrelid = 'cpq.fulfillment_task'::regclass AND conname = 'fulfillment_task_state_known';
    IF known IS NULL OR known NOT LIKE '%cancelled%' THEN
        RAISE EXCEPTION '0017_expand_worker_repair: a task cannot be cancelled: %', known;
    END IF;
    IF EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'cpq.fulfillment_task'::regclass AND conname = 'fulfillment_task_state_check'
    ) THEN
        RAISE EXCEPTION '0017_expand_worker_repair: the narrower rule on a task''s state is still there';
    END IF;
END
$$;

-- Fails when anybody but the worker may look over the tenants' walls by these functions.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY['cpq.jobs_held_by(text, timestamptz)', 'cpq.open_fallout()'] LOOP
        IF has_function_privilege('cpq_api', signature, 'EXECUTE') THEN
            RAISE EXCEPTION '0017_expand_worker_repair: cpq_api may execute %', signature;
        END IF;
        IF NOT has_function_privilege('cpq_worker', signature, 'EXECUTE') THEN
            RAISE EXCEPTION '0017_expand_worker_repair: cpq_worker may not execute %', signature;
        END IF;
    END LOOP;
END
$$;

-- Fails when the jobs that workers hold are without the tenant wall.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_class AS c
        JOIN pg_policies AS p ON p.schemaname = 'cpq' AND p.tablename = c.relname AND p.policyname = 'tenant_wall'
        WHERE c.oid = 'cpq.held_job'::regclass AND c.relrowsecurity AND c.relforcerowsecurity
    ) THEN
        RAISE EXCEPTION '0017_expand_worker_repair: held_job is without the tenant wall';
    END IF;
END
$$;
