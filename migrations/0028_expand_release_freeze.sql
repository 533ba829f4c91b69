-- depends: 0027_expand_role_epochs
-- budget: lock 200ms, duration 5s
-- Times in which nothing is released: who said so, why, until when, and who ended it. At most one is in force that nobody ended.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.release_freeze (
    freeze_id uuid PRIMARY KEY,
    reason text NOT NULL CHECK (reason <> ''),
    operator text NOT NULL,
    frozen_at timestamptz NOT NULL DEFAULT now(),
    -- It ends by itself then; null until somebody ends it.
    until timestamptz CHECK (until > frozen_at),
    thawed_at timestamptz,
    thawed_by text,
    CONSTRAINT release_freeze_thawed_by_somebody CHECK ((thawed_at IS NULL) = (thawed_by IS NULL))
);
CREATE UNIQUE INDEX release_freeze_one_open ON cpq.release_freeze ((true)) WHERE thawed_at IS NULL;
