-- name: value
-- A flag's value in this environment.
SELECT enabled FROM cpq.feature_flag WHERE flag = %(flag)s;
