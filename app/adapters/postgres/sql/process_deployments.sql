-- name: deployed
-- Content hashes that the engine has been given, by process.
SELECT process_id, content_sha256, engine_version FROM cpq.process_deployment;

-- name: record
-- What the engine answered, and by which release; the same content again is the same deployment.
INSERT INTO cpq.process_deployment (
    process_id, content_sha256, engine_version, engine_key, job_types, variables_schema_version,
    compatible_worker_release, git_commit, release_id
) VALUES (
    %(process_id)s, %(content_sha256)s, %(engine_version)s, %(engine_key)s, %(job_types)s, %(variables_schema_version)s,
    %(compatible_worker_release)s, %(git_commit)s, %(release_id)s
)
ON CONFLICT (process_id, content_sha256) DO NOTHING;

-- name: all
-- Every content of every process version.
SELECT
    process_id, content_sha256, engine_version, engine_key, job_types, variables_schema_version,
    compatible_worker_release, git_commit, release_id, deployed_at
FROM cpq.process_deployment
ORDER BY process_id, engine_version;

-- name: live_workers
-- Workers heard of lately; one that stopped without saying so drops out by its heartbeat. One of a release that did not
-- list its versions understands all up to its one number.
SELECT
    instance_id, worker_group, job_types, release_id,
    CASE
        WHEN variables_schema_versions <> '{}' THEN variables_schema_versions
        ELSE array(SELECT generate_series(1, variables_schema_version))
    END AS variables_schema_versions
FROM cpq.worker_registration
WHERE heartbeat_at > now() - %(heard_within)s::interval
ORDER BY instance_id;

-- name: live_workers_of_older_schema
-- The same before migration 0012.
SELECT
    instance_id, worker_group, job_types, release_id,
    array(SELECT generate_series(1, variables_schema_version)) AS variables_schema_versions
FROM cpq.worker_registration
WHERE heartbeat_at > now() - %(heard_within)s::interval
ORDER BY instance_id;
