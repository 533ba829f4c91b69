-- Fails when a step or a reaction cannot remember since when it is put off.
DO $$
DECLARE
    counted integer;
BEGIN
    SELECT count(*) INTO counted
    FROM information_schema.columns
    WHERE
        table_schema = 'cpq' AND table_name IN ('fulfillment_task', 'reaction') AND column_name = 'waiting_since'
        AND data_type = 'timestamp with time zone' AND is_nullable = 'YES';
    IF counted <> 2 THEN
        RAISE EXCEPTION '0019_expand_put_off_since: % of 2 columns are there', counted;
    END IF;
END
$$;
