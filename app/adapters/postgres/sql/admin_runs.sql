-- name: open
-- Committed before the command touches anything.
INSERT INTO cpq.admin_run (admin_run_id, command, operator, reason, outcome)
VALUES (%(run_id)s, %(command)s, %(operator)s, %(reason)s, 'running');

-- name: close
-- How it ended.
UPDATE cpq.admin_run SET outcome = %(outcome)s, detail = %(detail)s, finished_at = now()
WHERE admin_run_id = %(run_id)s;

-- name: record
-- A finished run at once: only the run that creates the table cannot open itself first.
INSERT INTO cpq.admin_run (admin_run_id, command, operator, reason, outcome, detail, finished_at)
VALUES (%(run_id)s, %(command)s, %(operator)s, %(reason)s, %(outcome)s, %(detail)s, now());
