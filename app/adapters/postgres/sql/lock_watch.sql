-- name: locks
-- Table locks that other sessions of one name have. A table that is made in the same transaction is not there for anybody else.
SELECT c.relname, l.mode
FROM pg_locks AS l
INNER JOIN pg_stat_activity AS a ON l.pid = a.pid
INNER JOIN pg_class AS c ON l.relation = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE l.locktype = 'relation' AND l.granted AND a.application_name = %(watched)s
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND n.nspname = 'cpq' AND c.relkind IN ('r', 'p', 'm');

-- name: server
-- Which database of which server this is: two sessions of the same one get the same answer.
SELECT pg_postmaster_start_time()::text || ' ' || current_database() AS identity;

-- name: extent
-- How much there is to migrate.
SELECT
    pg_database_size(current_database())::bigint AS bytes,
    (SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace('cpq') AND c.relkind = 'r') AS estimated_rows;
