-- depends: 0025_expand_release_record
-- budget: lock 200ms, duration 5s
-- How far each backfill has come: written with every batch, in the batch's own transaction, so that one that is killed goes on where it was.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.migration_backfill (
    migration text PRIMARY KEY,
    content_sha256 text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done')),
    -- The last key of the last batch; none before the first one of a pass over the table.
    after_key text,
    passes integer NOT NULL DEFAULT 1 CHECK (passes > 0),
    batches bigint NOT NULL DEFAULT 0,
    rows_changed bigint NOT NULL DEFAULT 0,
    operator text NOT NULL,
    release_id text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((state = 'done') = (finished_at IS NOT NULL))
);
