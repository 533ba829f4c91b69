-- Fails when an order's trace cannot be kept, or must be given.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM information_schema.columns
        WHERE
            table_schema = 'cpq' AND table_name = 'workflow_reference' AND column_name = 'traceparent'
            AND is_nullable = 'YES'
    ) THEN
        RAISE EXCEPTION '0020_expand_workflow_trace: workflow_reference has no traceparent';
    END IF;
END
$$;
