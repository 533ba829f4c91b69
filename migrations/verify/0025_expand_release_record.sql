-- Fails when two entries could have the same place in the record.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = to_regclass('cpq.release_record') AND contype = 'p'
    ) THEN
        RAISE EXCEPTION '0025_expand_release_record: release_record has no primary key';
    END IF;
END
$$;
