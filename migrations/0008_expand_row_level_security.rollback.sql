SET lock_timeout = '4s';
DROP FUNCTION cpq.due_workflow_references(integer);
DROP POLICY relay_moves_envelopes ON cpq.outbox_event;
DO $$
DECLARE
    policy record;
BEGIN
    FOR policy IN SELECT tablename, policyname FROM pg_policies WHERE schemaname = 'cpq' LOOP
        EXECUTE format('DROP POLICY %I ON cpq.%I', policy.policyname, policy.tablename);
        EXECUTE format('ALTER TABLE cpq.%I NO FORCE ROW LEVEL SECURITY', policy.tablename);
        EXECUTE format('ALTER TABLE cpq.%I DISABLE ROW LEVEL SECURITY', policy.tablename);
    END LOOP;
END
$$;
