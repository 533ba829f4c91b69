-- name: primary_position
-- How far this server's log is on disk: everything that was acknowledged is before it. Refused by a standby.
SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint AS position;

-- name: server
-- Whether this server is a standby, and how much of the primary's log its rows show.
SELECT pg_is_in_recovery() AS is_standby, (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint AS replayed;
