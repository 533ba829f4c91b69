-- Fails when a backfill could have two places at once.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = to_regclass('cpq.migration_backfill') AND contype = 'p'
    ) THEN
        RAISE EXCEPTION '0026_expand_migration_backfill: migration_backfill has no primary key';
    END IF;
END
$$;
