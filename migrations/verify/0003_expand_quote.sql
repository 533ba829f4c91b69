-- Fails when a table of 0003_expand_quote is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['quote', 'quote_item', 'quote_price_step']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0003_expand_quote: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when a total would be rounded or filled with zeros by its column.
DO $$
DECLARE
    scaled text;
BEGIN
    SELECT string_agg(table_name || '.' || column_name, ', ') INTO scaled
    FROM information_schema.columns
    WHERE
        table_schema = 'cpq' AND table_name IN ('quote', 'quote_item', 'quote_price_step')
        AND data_type = 'numeric' AND numeric_scale IS NOT NULL;
    IF scaled IS NOT NULL THEN
        RAISE EXCEPTION '0003_expand_quote: columns with a fixed scale: %', scaled;
    END IF;
END
$$;
