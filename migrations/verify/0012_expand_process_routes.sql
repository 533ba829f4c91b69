-- Fails when an order would find no default, or a tenant could see another one's routes.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM cpq.process_route
        WHERE business_process = 'order-fulfillment' AND tenant_id IS NULL AND order_type IS NULL AND catalog_from IS NULL
            AND catalog_to IS NULL AND flag IS NULL AND valid_to IS NULL AND removed_at IS NULL
    ) THEN
        RAISE EXCEPTION '0012_expand_process_routes: no route for every order';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_policies AS p ON p.schemaname = 'cpq' AND p.tablename = c.relname
        WHERE c.oid = 'cpq.process_route'::regclass AND c.relrowsecurity AND c.relforcerowsecurity
            AND p.policyname = 'tenant_wall' AND p.cmd = 'SELECT'
    ) THEN
        RAISE EXCEPTION '0012_expand_process_routes: process_route is without its wall';
    END IF;
    PERFORM route_id, route_reason FROM cpq.workflow_reference LIMIT 0;
    PERFORM variables_schema_versions FROM cpq.worker_registration LIMIT 0;
    PERFORM process_id FROM cpq.process_retirement LIMIT 0;
END
$$;

-- Fails when two routes of one case and priority were accepted. The rows vanish with the inner block.
DO $$
BEGIN
    BEGIN
        INSERT INTO cpq.process_route (route_id, business_process, process_id, priority, reason, created_by)
        SELECT gen_random_uuid(), 'verify', 'verify-v1', 1, 'verify', 'verify' FROM generate_series(1, 2);
    EXCEPTION WHEN unique_violation THEN
        RETURN;
    END;
    RAISE EXCEPTION '0012_expand_process_routes: two routes of one case were accepted';
END
$$;
