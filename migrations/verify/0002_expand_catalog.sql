-- Fails when a table of 0002_expand_catalog is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['catalog_version', 'product_offering', 'product_offering_price', 'price_adjustment_tier']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0002_expand_catalog: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when a tenant could have two active catalog versions. The rows vanish with the inner block.
DO $$
BEGIN
    BEGIN
        INSERT INTO cpq.tenant (tenant_id, display_name, default_currency) VALUES ('verify-0002', 'verify', 'EUR');
        INSERT INTO cpq.catalog_version (tenant_id, catalog_version, lifecycle_status, content_sha256)
        VALUES ('verify-0002', 1, 'active', ''), ('verify-0002', 2, 'active', '');
    EXCEPTION WHEN unique_violation THEN
        RETURN;
    END;
    RAISE EXCEPTION '0002_expand_catalog: two active versions were accepted';
END
$$;
