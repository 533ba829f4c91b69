-- name: all
-- What the environment has.
SELECT flag, enabled, updated_by FROM cpq.feature_flag ORDER BY flag;

-- name: insert
-- The declared default; a value that is there, an operator's for instance, stays.
INSERT INTO cpq.feature_flag (flag, enabled, updated_by)
VALUES (%(flag)s, %(enabled)s, %(updated_by)s)
ON CONFLICT (flag) DO NOTHING;
