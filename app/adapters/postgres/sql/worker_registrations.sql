-- name: announce
-- A registration or its heartbeat; written anew if somebody removed it: a worker that lives must be seen to live.
-- The one number is for an older release that looks: it takes it for everything up to it.
INSERT INTO cpq.worker_registration (
    instance_id, worker_group, job_types, variables_schema_version, variables_schema_versions, release_id, started_at,
    heartbeat_at
) VALUES (
    %(instance_id)s, %(worker_group)s, %(job_types)s,
    (SELECT max(v.version) FROM unnest(%(variables_schema_versions)s::integer []) AS v (version)),
    %(variables_schema_versions)s, %(release_id)s, %(started_at)s, now()
)
ON CONFLICT (instance_id) DO UPDATE SET
    worker_group = excluded.worker_group, job_types = excluded.job_types,
    variables_schema_version = excluded.variables_schema_version,
    variables_schema_versions = excluded.variables_schema_versions, release_id = excluded.release_id,
    started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at;

-- name: jobs_left_behind
-- What a former life of the instance held when it died.
SELECT job_key, retries FROM cpq.jobs_held_by(%(instance_id)s, now() - %(within)s::interval);

-- name: open_fallout
-- How many cases wait for a person, by step.
SELECT step, cases FROM cpq.open_fallout();

-- name: remove
-- The registration of one run of an instance: a run that began since keeps its own.
DELETE FROM cpq.worker_registration WHERE instance_id = %(instance_id)s AND started_at = %(started_at)s;
