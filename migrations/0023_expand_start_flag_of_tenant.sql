-- depends: 0020_expand_workflow_trace
-- Due references of the tenants for which a flag is on: the tenant's own value, the environment's, or the declared default.
-- Those of other tenants are not handed out, so that they neither stand in others' way nor have to be put off again and again.
SET lock_timeout = '4s';
SET statement_timeout = '5s';
CREATE FUNCTION cpq.due_workflow_references(batch integer, switch text, switch_default boolean)
RETURNS TABLE (order_id uuid, tenant_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
    SELECT r.order_id, r.tenant_id
    FROM cpq.workflow_reference AS r
    LEFT JOIN cpq.tenant_feature_flag AS own ON own.tenant_id = r.tenant_id AND own.flag = switch
    LEFT JOIN cpq.feature_flag AS common ON common.flag = switch
    WHERE r.state = 'pending' AND r.next_attempt_at <= now() AND coalesce(own.enabled, common.enabled, switch_default)
    ORDER BY r.next_attempt_at
    LIMIT batch
$$;
REVOKE ALL ON FUNCTION cpq.due_workflow_references(integer, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cpq.due_workflow_references(integer, text, boolean) TO cpq_worker;
