-- Fails when an index is missing, or there and not finished.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY[
        'product_order_open', 'workflow_reference_live', 'order_transition_ended', 'external_call_attempt_by_time'
    ]) AS expected
    WHERE NOT EXISTS (
        SELECT FROM pg_index AS i WHERE i.indexrelid = to_regclass('cpq.' || expected) AND i.indisvalid
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0024_expand_history_indexes: missing or unfinished: %', missing;
    END IF;
END
$$;
