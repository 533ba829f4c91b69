-- depends: 0007_expand_operations
-- Every tenant table shows a component only the transaction's tenant, which a sub-select asks for once per statement.
-- The roles exist before: the postgresql role makes them.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'tenant', 'catalog_version', 'product_offering', 'product_offering_price', 'price_adjustment_tier',
        'quote', 'quote_item', 'quote_price_step',
        'product_order', 'order_item', 'order_transition', 'fulfillment_task', 'external_call_attempt',
        'workflow_reference', 'fallout_case', 'outbox_event', 'inbox_event', 'order_projection',
        'idempotency_record', 'audit_entry'
    ] LOOP
        EXECUTE format('ALTER TABLE cpq.%I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE cpq.%I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format(
            'CREATE POLICY tenant_wall ON cpq.%I TO cpq_api, cpq_worker, cpq_consumer '
            'USING (tenant_id = (SELECT cpq.current_tenant())) '
            'WITH CHECK (tenant_id = (SELECT cpq.current_tenant()))', table_name
        );
        -- The audited cross-tenant policy: admin commands write an admin_run row before they touch anything.
        EXECUTE format('CREATE POLICY admin_all ON cpq.%I TO cpq_admin USING (true) WITH CHECK (true)', table_name);
        EXECUTE format('CREATE POLICY observer_reads ON cpq.%I FOR SELECT TO cpq_observer USING (true)', table_name);
        EXECUTE format('CREATE POLICY owner_all ON cpq.%I TO cpq_owner USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END
$$;

-- The relay moves envelopes of all tenants and sees nothing else.
CREATE POLICY relay_moves_envelopes ON cpq.outbox_event TO cpq_relay USING (true) WITH CHECK (true);

-- The starter finds due references of all tenants without the tenant being set; their orders stay behind the wall.
CREATE FUNCTION cpq.due_workflow_references(batch integer)
RETURNS TABLE (order_id uuid, tenant_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT r.order_id, r.tenant_id
    FROM cpq.workflow_reference AS r
    WHERE r.state = 'pending' AND r.next_attempt_at <= now()
    ORDER BY r.next_attempt_at
    LIMIT batch
$$;
REVOKE ALL ON FUNCTION cpq.due_workflow_references(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cpq.due_workflow_references(integer) TO cpq_worker;
