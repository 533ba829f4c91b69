-- Fails when the starter may not ask by a flag, or anybody else may look for due references across tenants.
DO $$
DECLARE
    asked constant text := 'cpq.due_workflow_references(integer, text, boolean)';
BEGIN
    IF NOT has_function_privilege('cpq_worker', asked, 'EXECUTE') THEN
        RAISE EXCEPTION '0023_expand_start_flag_of_tenant: cpq_worker may not execute %', asked;
    END IF;
    IF has_function_privilege('cpq_api', asked, 'EXECUTE') THEN
        RAISE EXCEPTION '0023_expand_start_flag_of_tenant: cpq_api may execute %', asked;
    END IF;
END
$$;
