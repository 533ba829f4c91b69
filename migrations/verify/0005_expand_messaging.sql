-- Fails when a table of 0005_expand_messaging is not there.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(expected, ', ') INTO missing
    FROM unnest(ARRAY['outbox_event', 'relay_shard_lease', 'inbox_event', 'consumer_offset', 'order_projection']) AS expected
    WHERE to_regclass('cpq.' || expected) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '0005_expand_messaging: missing tables: %', missing;
    END IF;
END
$$;

-- Fails when a shard has no lease row: nobody could ever publish its events.
DO $$
BEGIN
    IF (SELECT count(*) FROM cpq.relay_shard_lease) <> 16 THEN
        RAISE EXCEPTION '0005_expand_messaging: expected 16 rows in relay_shard_lease';
    END IF;
END
$$;
