-- Fails when an event cannot be discarded, or may be in a state nobody knows.
DO $$
DECLARE
    known text;
BEGIN
    SELECT pg_get_constraintdef(oid) INTO known
    FROM pg_constraint
    WHERE conrelid = 'cpq.outbox_event'::regclass AND conname = 'outbox_event_state_known';
    IF known IS NULL OR known NOT LIKE '%discarded%' THEN
        RAISE EXCEPTION '0018_expand_halts_and_discards: an event cannot be discarded: %', known;
    END IF;
    IF EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'cpq.outbox_event'::regclass AND conname = 'outbox_event_state_check'
    ) THEN
        RAISE EXCEPTION '0018_expand_halts_and_discards: the narrower rule on an event''s state is still there';
    END IF;
END
$$;

-- Fails when the limit's window moves on while a partition rests because of it. The rows vanish with the inner block.
DO $$
DECLARE
    found bigint;
BEGIN
    BEGIN
        INSERT INTO cpq.consumer_parked_event (
            consumer_group, topic, kafka_partition, kafka_offset, tenant_id, aggregate_key, header_names, header_values,
            state, attempts, parked_at
        ) VALUES ('verify-0018', 't', 0, 0, '?', 'k', '{}', '{}', 'dead', 1, now() - INTERVAL '1 hour');
        INSERT INTO cpq.consumer_halt (consumer_group, topic, kafka_partition, kind, reason, halted_at)
        VALUES ('verify-0018', 't', 0, 'limit', 'verify', now() - INTERVAL '1 hour');
        SELECT failing INTO found FROM cpq.consumer_group_state('verify-0018', INTERVAL '10 minutes');
        RAISE EXCEPTION USING ERRCODE = 'RS018', MESSAGE = found::text;
    EXCEPTION WHEN SQLSTATE 'RS018' THEN
        IF SQLERRM <> '1' THEN
            RAISE EXCEPTION '0018_expand_halts_and_discards: % events count as failing, not 1', SQLERRM;
        END IF;
    END;
END
$$;
