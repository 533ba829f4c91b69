-- name: take
-- One runner at a time; given back when its session ends.
SELECT pg_try_advisory_lock(20261, 2) AS taken;

-- name: holder
-- Who runs one now.
SELECT a.application_name, a.pid
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 20261 AND l.objid = 2;

-- name: begin
-- The first run of a backfill, by whom; a later one finds it.
INSERT INTO cpq.migration_backfill (migration, content_sha256, state, operator, release_id)
VALUES (%(migration)s, %(content_sha256)s, 'running', %(operator)s, %(release_id)s)
ON CONFLICT (migration) DO NOTHING;

-- name: progress
-- How far each has come.
SELECT
    migration, content_sha256, state, after_key, passes, batches, rows_changed, operator, release_id, started_at,
    updated_at, finished_at
FROM cpq.migration_backfill
ORDER BY migration;

-- name: place
-- Where it goes on, held until the batch has ended.
SELECT after_key FROM cpq.migration_backfill WHERE migration = %(migration)s AND state = 'running' FOR UPDATE;

-- name: advance
-- A batch and what it did, in one transaction.
UPDATE cpq.migration_backfill
SET after_key = %(after)s, batches = batches + 1, rows_changed = rows_changed + %(changed)s, updated_at = now()
WHERE migration = %(migration)s;

-- name: limits
-- What one batch may take, for its transaction alone.
SELECT
    set_config('lock_timeout', %(lock_ms)s::text || 'ms', true),
    set_config('statement_timeout', %(statement_ms)s::text || 'ms', true);

-- name: start_over
-- Another pass: rows were written behind the last one.
UPDATE cpq.migration_backfill
SET after_key = NULL, passes = passes + 1, updated_at = now()
WHERE migration = %(migration)s AND state = 'running';
