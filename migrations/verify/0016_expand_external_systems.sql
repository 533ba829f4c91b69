-- Fails when a breaker does not open, lets more than one call try, or a rate is not kept. The rows vanish with the inner block.
DO $$
DECLARE
    admission record;
    state text;
    admitted integer := 0;
    problem text;
BEGIN
    BEGIN
        FOR attempt IN 1..2 LOOP
            SELECT * INTO admission FROM cpq.admit_external_call('verify', interval '1 hour', 4, 2, interval '1 hour');
            state := cpq.settle_external_call('verify', admission.call_generation, 'failed', 2, interval '0', NULL, 'verify');
        END LOOP;
        IF state <> 'open' THEN
            problem := 'two failures leave the breaker ' || state;
        END IF;
        FOR attempt IN 1..2 LOOP
            SELECT * INTO admission FROM cpq.admit_external_call('verify', interval '1 hour', 4, 2, interval '1 hour');
            admitted := admitted + (admission.verdict = 'admitted')::integer;
        END LOOP;
        IF admitted <> 1 THEN
            problem := admitted || ' calls try at once';
        END IF;
        state := cpq.settle_external_call('verify', admission.call_generation, 'succeeded', 2, interval '0', NULL, NULL);
        IF state <> 'closed' THEN
            problem := 'a success leaves the breaker ' || state;
        END IF;
        admitted := 0;
        FOR attempt IN 1..2 LOOP
            SELECT * INTO admission FROM cpq.admit_external_call('verify', interval '1 hour', 4, 2, interval '1 hour');
            admitted := admitted + (admission.verdict = 'admitted')::integer;
        END LOOP;
        IF admitted <> 1 OR admission.verdict <> 'rate' THEN
            problem := 'the burst of 4 let ' || (admitted + 3) || ' calls out, and the last was ' || admission.verdict;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'ZZ999';
    EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
        NULL;
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '0016_expand_external_systems: %', problem;
    END IF;
END
$$;

-- Fails when callbacks are without their wall, or the receiver may see more than it needs.
DO $$
BEGIN
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'cpq.external_callback'::regclass) THEN
        RAISE EXCEPTION '0016_expand_external_systems: external_callback is without the tenant wall';
    END IF;
    IF EXISTS (SELECT FROM pg_policies WHERE schemaname = 'cpq' AND 'cpq_callback' = ANY(roles)
               AND tablename NOT IN ('external_callback', 'external_call_attempt', 'product_order', 'audit_entry')) THEN
        RAISE EXCEPTION '0016_expand_external_systems: cpq_callback has a policy on another table';
    END IF;
END
$$;
