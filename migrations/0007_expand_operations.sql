-- depends: 0006_expand_idempotency_and_audit
-- What the platform knows of its own running: flags, live workers, deployed processes, release runs, audited admin runs.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.feature_flag (
    flag text PRIMARY KEY,
    enabled boolean NOT NULL,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cpq.worker_registration (
    instance_id text PRIMARY KEY,
    worker_group text NOT NULL,
    job_types text [] NOT NULL,
    variables_schema_version integer NOT NULL,
    release_id text NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

CREATE TABLE cpq.process_deployment (
    process_id text NOT NULL,
    content_sha256 text NOT NULL,
    engine_version integer NOT NULL,
    engine_key bigint NOT NULL,
    job_types text [] NOT NULL,
    variables_schema_version integer NOT NULL,
    compatible_worker_release text NOT NULL,
    git_commit text NOT NULL,
    release_id text NOT NULL,
    deployed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (process_id, content_sha256)
);

CREATE TABLE cpq.release_run (
    run_id uuid PRIMARY KEY,
    release_id text NOT NULL,
    operator text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    -- Who drives the run: user@host:process:start of the playbook. A dead holder's run may be taken over.
    holder text NOT NULL,
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    paused_timers text [] NOT NULL DEFAULT '{}',
    failure text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX release_run_one_running ON cpq.release_run ((true)) WHERE state = 'running';

CREATE TABLE cpq.release_step (
    run_id uuid NOT NULL REFERENCES cpq.release_run,
    step text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    evidence jsonb,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (run_id, step)
);

CREATE TABLE cpq.admin_run (
    admin_run_id uuid PRIMARY KEY,
    command text NOT NULL,
    operator text NOT NULL,
    reason text,
    outcome text NOT NULL CHECK (outcome IN ('running', 'succeeded', 'failed')),
    detail jsonb,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
