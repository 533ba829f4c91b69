-- Fails when a table with tenant rows is without its wall.
DO $$
DECLARE
    open_tables text;
BEGIN
    SELECT string_agg(c.relname, ', ') INTO open_tables
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE
        c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p')
        AND NOT (
            c.relrowsecurity AND c.relforcerowsecurity
            AND EXISTS (
                SELECT FROM pg_policies AS p
                WHERE p.schemaname = 'cpq' AND p.tablename = c.relname AND p.policyname = 'tenant_wall'
            )
        );
    IF open_tables IS NOT NULL THEN
        RAISE EXCEPTION '0008_expand_row_level_security: tables without the tenant wall: %', open_tables;
    END IF;
END
$$;

-- Fails when anybody but the worker may look for due references across tenants.
DO $$
BEGIN
    IF has_function_privilege('cpq_api', 'cpq.due_workflow_references(integer)', 'EXECUTE') THEN
        RAISE EXCEPTION '0008_expand_row_level_security: cpq_api may execute due_workflow_references';
    END IF;
    IF NOT has_function_privilege('cpq_worker', 'cpq.due_workflow_references(integer)', 'EXECUTE') THEN
        RAISE EXCEPTION '0008_expand_row_level_security: cpq_worker may not execute due_workflow_references';
    END IF;
END
$$;
