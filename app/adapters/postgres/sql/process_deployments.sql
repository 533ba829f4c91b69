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

-- name: live_workers
-- Workers heard of lately; one that stopped without saying so drops out by its heartbeat.
SELECT instance_id, worker_group, job_types, variables_schema_version, release_id
FROM cpq.worker_registration
WHERE heartbeat_at > now() - %(heard_within)s::interval
ORDER BY instance_id;
