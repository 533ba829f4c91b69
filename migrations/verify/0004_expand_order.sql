-- Fails when a table of 0004_expand_order is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['product_order', 'order_item', 'order_transition', 'fulfillment_task', 'external_call_attempt', 'workflow_reference', 'fallout_case']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0004_expand_order: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when a quote could become two orders.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = 'cpq.product_order'::regclass AND i.indisunique AND i.indnkeyatts = 1 AND a.attname = 'quote_id'
    ) THEN
        RAISE EXCEPTION '0004_expand_order: product_order.quote_id is not unique';
    END IF;
END
$$;
