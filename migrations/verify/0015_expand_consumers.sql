-- Fails when a table of 0015_expand_consumers is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY[
        'consumer_parked_event', 'dead_letter', 'reaction', 'audit_export_chain', 'audit_export_record',
        'audit_export_segment', 'reconciliation_event', 'reconciliation_finding', 'projection_rebuild',
        'order_projection_shadow'
    ]) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0015_expand_consumers: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when a table with tenant rows is without its wall.
DO $$
DECLARE
    open_tables text;
BEGIN
    SELECT string_agg(c.relname, ', ') INTO open_tables
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE
        c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p')
        AND NOT (
            c.relrowsecurity AND c.relforcerowsecurity
            AND EXISTS (
                SELECT FROM pg_policies AS p
                WHERE p.schemaname = 'cpq' AND p.tablename = c.relname AND p.policyname = 'tenant_wall'
            )
        );
    IF open_tables IS NOT NULL THEN
        RAISE EXCEPTION '0015_expand_consumers: tables without the tenant wall: %', open_tables;
    END IF;
END
$$;

-- Fails when an event could have two reactions of one group, or two records in the export.
DO $$
BEGIN
    IF (
        SELECT count(*) FROM pg_constraint
        WHERE contype = 'u' AND conrelid IN ('cpq.reaction'::regclass, 'cpq.audit_export_record'::regclass)
    ) <> 2 THEN
        RAISE EXCEPTION '0015_expand_consumers: reaction or audit_export_record lacks its unique constraint';
    END IF;
END
$$;
