-- Fails when a relay could not say that it lives, or a refusal could not name its contract.
DO $$
BEGIN
    IF to_regclass('cpq.relay_member') IS NULL THEN
        RAISE EXCEPTION '0009_expand_relay_membership: missing table: relay_member';
    END IF;
    IF NOT EXISTS (
        SELECT FROM information_schema.columns
        WHERE table_schema = 'cpq' AND table_name = 'outbox_event' AND column_name = 'refused_contract'
    ) THEN
        RAISE EXCEPTION '0009_expand_relay_membership: missing column: outbox_event.refused_contract';
    END IF;
END
$$;
