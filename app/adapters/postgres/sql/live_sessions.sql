-- name: sessions
-- Sessions of the platform's roles on this database but one's own; people who only look are none.
SELECT pid, usename AS role, application_name AS name
FROM pg_stat_activity
WHERE datname = current_database() AND usename = ANY(%(roles)s) AND pid <> pg_backend_pid()
ORDER BY usename, application_name, pid;

-- name: following
-- How many servers receive this one's log. What each is, only members of pg_read_all_stats are told.
SELECT count(*)::integer AS following FROM pg_stat_replication;

-- name: release
-- The release that is under way.
SELECT release_id, operator FROM cpq.release_run WHERE state = 'running';
