-- Fails when a table of 0007_expand_operations is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['feature_flag', 'worker_registration', 'process_deployment', 'release_run', 'release_step', 'admin_run']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0007_expand_operations: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when two releases could run at a time. The rows vanish with the inner block.
DO $$
BEGIN
    BEGIN
        INSERT INTO cpq.release_run (run_id, release_id, operator, holder, state) VALUES
        ('00000000-0000-0000-0000-000000000001', 'verify', 'verify', 'verify', 'running'),
        ('00000000-0000-0000-0000-000000000002', 'verify', 'verify', 'verify', 'running');
    EXCEPTION WHEN unique_violation THEN
        RETURN;
    END;
    RAISE EXCEPTION '0007_expand_operations: two running releases were accepted';
END
$$;
