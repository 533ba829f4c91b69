-- Fails when two freezes could be open at once.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_index
        WHERE indexrelid = to_regclass('cpq.release_freeze_one_open') AND indisunique AND indisvalid
    ) THEN
        RAISE EXCEPTION '0028_expand_release_freeze: release_freeze_one_open is not a valid unique index';
    END IF;
END
$$;
