-- Fails when a table of 0006_expand_idempotency_and_audit is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['idempotency_record', 'audit_entry']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0006_expand_idempotency_and_audit: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when an audit entry can be changed. The row vanishes with the inner block.
DO $$
BEGIN
    BEGIN
        INSERT INTO cpq.audit_entry (audit_id, tenant_id, actor, action, target_type, target_id, occurred_at)
        VALUES ('00000000-0000-0000-0000-000000000000', 'verify-0006', 'verify', 'verify', 'verify', 'verify', now());
        UPDATE cpq.audit_entry SET actor = 'somebody else' WHERE tenant_id = 'verify-0006';
    EXCEPTION WHEN raise_exception THEN
        RETURN;
    END;
    RAISE EXCEPTION USING
        ERRCODE = 'assert_failure', MESSAGE = '0006_expand_idempotency_and_audit: an audit entry was changed';
END
$$;
