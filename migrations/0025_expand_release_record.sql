-- depends: 0024_expand_history_indexes
-- What was done in releases, in the order in which it was done, each entry sealed by the hash of the one before it. Nobody may change or remove one.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.release_record (
    sequence bigint PRIMARY KEY CHECK (sequence > 0),
    run_id uuid NOT NULL REFERENCES cpq.release_run,
    body text NOT NULL,
    hash text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$')
);
CREATE INDEX release_record_by_run ON cpq.release_record (run_id);
