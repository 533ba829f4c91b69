-- Fails when an epoch that is over could still write.
DO $$
DECLARE
    fenced constant text [] := ARRAY[
        'workflow_reference', 'external_call_attempt', 'fulfillment_task', 'fallout_case', 'reaction', 'outbox_event',
        'consumer_offset', 'inbox_event', 'consumer_parked_event', 'consumer_halt', 'dead_letter', 'audit_export_segment'
    ];
    open_table text;
    refused boolean := false;
BEGIN
    SELECT t INTO open_table FROM unnest(fenced) AS t
    WHERE NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = to_regclass('cpq.' || t) AND tgname = 'epoch_fence' AND tgenabled = 'O'
    );
    IF open_table IS NOT NULL THEN
        RAISE EXCEPTION '0027_expand_role_epochs: % has no fence', open_table;
    END IF;
    PERFORM set_config('cpq.role', 'verify', true), set_config('cpq.epoch', '1', true);
    BEGIN
        PERFORM cpq.hold_epoch();
    EXCEPTION WHEN SQLSTATE '55C01' THEN
        refused := true;
    END;
    IF NOT refused THEN
        RAISE EXCEPTION '0027_expand_role_epochs: an epoch that is not the role''s is held';
    END IF;
    PERFORM set_config('cpq.role', '', true), set_config('cpq.epoch', '', true);
END
$$;
