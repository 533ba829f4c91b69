-- name: current
-- The run that is under way, if any, locked against a second operator until the transaction ends.
SELECT
    run_id, release_id, operator, holder, paused_timers, started_at, heartbeat_at,
    extract(epoch FROM now() - heartbeat_at)::float AS silent_seconds
FROM cpq.release_run
WHERE state = 'running'
FOR UPDATE;

-- name: open
-- A new run; the unique index lets one win. Timers that an earlier run paused and could not resume come along.
INSERT INTO cpq.release_run (run_id, release_id, operator, state, holder, paused_timers)
VALUES (
    %(run_id)s, %(release_id)s, %(operator)s, 'running', %(holder)s,
    coalesce(
        (SELECT array_agg(DISTINCT timer) FROM cpq.release_run AS r, unnest(r.paused_timers) AS timer
        WHERE r.state <> 'running'), '{}'
    )
);

-- name: forget_timers
-- The new run answers for them now.
UPDATE cpq.release_run SET paused_timers = '{}' WHERE state <> 'running' AND paused_timers <> '{}';

-- name: take_over
-- The same release goes on under a new holder.
UPDATE cpq.release_run SET holder = %(holder)s, operator = %(operator)s, heartbeat_at = now() WHERE run_id = %(run_id)s;

-- name: step
-- A step's newest state; a repeated step starts its time again.
INSERT INTO cpq.release_step (run_id, step, state, evidence, finished_at)
VALUES (%(run_id)s, %(step)s, %(state)s, %(evidence)s, CASE WHEN %(state)s = 'running' THEN NULL ELSE now() END)
ON CONFLICT (run_id, step) DO UPDATE SET
    state = excluded.state,
    evidence = coalesce(excluded.evidence, release_step.evidence),
    started_at = CASE WHEN excluded.state = 'running' THEN now() ELSE release_step.started_at END,
    finished_at = excluded.finished_at;

-- name: heartbeat
-- The holder was heard of; no row where it has no run (any more).
UPDATE cpq.release_run SET heartbeat_at = now() WHERE state = 'running' AND holder = %(holder)s RETURNING run_id;

-- name: set_timers
-- Written before the first timer is stopped and emptied after the last one was started.
UPDATE cpq.release_run SET paused_timers = %(timers)s, heartbeat_at = now() WHERE run_id = %(run_id)s;

-- name: finish
-- The end, once.
UPDATE cpq.release_run
SET state = %(state)s, failure = %(failure)s, finished_at = now(), heartbeat_at = now()
WHERE run_id = %(run_id)s AND state = 'running';

-- name: latest
-- The newest run with its state.
SELECT run_id, release_id, operator, holder, state, paused_timers, failure, started_at, heartbeat_at, finished_at
FROM cpq.release_run
ORDER BY started_at DESC, run_id DESC
LIMIT 1;

-- name: steps
-- What a run did, in order.
SELECT step, state, evidence, started_at, finished_at
FROM cpq.release_step
WHERE run_id = %(run_id)s
ORDER BY started_at, step;

-- name: run
-- Who does what in a run, as the record says it.
SELECT run_id, release_id, operator, holder FROM cpq.release_run WHERE run_id = %(run_id)s;

-- name: runs
-- The newest runs with how long they took.
SELECT run_id, release_id, operator, state, failure, started_at, finished_at
FROM cpq.release_run
ORDER BY started_at DESC, run_id DESC
LIMIT %(limit)s;

-- name: hold_record
-- One writer at a time, until the transaction ends: the next entry is sealed by the last one.
SELECT pg_advisory_xact_lock(hashtext('cpq.release_record'));

-- name: record_end
-- Where the record ends, and when it is now.
SELECT e.sequence, e.hash, now() AS at FROM (SELECT) AS one
LEFT JOIN LATERAL (SELECT sequence, hash FROM cpq.release_record ORDER BY sequence DESC LIMIT 1) AS e ON true;

-- name: append_record
INSERT INTO cpq.release_record (sequence, run_id, body, hash)
VALUES (%(sequence)s, %(run_id)s, %(body)s, %(hash)s);

-- name: record
-- Entries behind one, in order.
SELECT sequence, body, hash FROM cpq.release_record WHERE sequence > %(after)s ORDER BY sequence;

-- name: record_at
SELECT sequence, body, hash FROM cpq.release_record WHERE sequence = %(sequence)s;

-- name: evidence
-- What shows each step that has evidence.
SELECT run_id, step, evidence FROM cpq.release_step WHERE evidence IS NOT NULL;
