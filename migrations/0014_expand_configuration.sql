-- depends: 0012_expand_process_routes
-- What operators change while the platform runs: flags by tenant with their history, settings of running units, and
-- published approval policies.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

-- The row of a flag is its value in the environment. A value that nobody set must be the declared default: the release
-- finds one that differs.
ALTER TABLE cpq.feature_flag ADD COLUMN is_operator_set boolean NOT NULL DEFAULT false;

CREATE TABLE cpq.tenant_feature_flag (
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    flag text NOT NULL,
    enabled boolean NOT NULL,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, flag)
);

-- Every change of a flag, those that wait or were superseded too. No tenant: the value of the whole environment. No value:
-- back to the default, or to the environment's value.
CREATE TABLE cpq.feature_flag_change (
    change_id uuid PRIMARY KEY,
    flag text NOT NULL,
    tenant_id text REFERENCES cpq.tenant,
    value_before boolean,
    value_after boolean,
    state text NOT NULL CHECK (state IN ('pending', 'applied', 'superseded')),
    reason text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    approved_by text CHECK (approved_by <> requested_by),
    approval_reason text,
    decided_at timestamptz,
    CHECK ((state = 'pending') = (decided_at IS NULL))
);
CREATE UNIQUE INDEX feature_flag_change_one_pending ON cpq.feature_flag_change (flag, coalesce(tenant_id, ''))
WHERE state = 'pending';
CREATE INDEX feature_flag_change_by_flag ON cpq.feature_flag_change (flag, requested_at);

CREATE FUNCTION cpq.refuse_decided_flag_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'the history of flags is append-only';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER feature_flag_change_is_history BEFORE UPDATE OR DELETE ON cpq.feature_flag_change
FOR EACH ROW EXECUTE FUNCTION cpq.refuse_decided_flag_change();

-- A setting that differs from what the units were started with. Unit *: all that have the setting.
CREATE TABLE cpq.runtime_setting (
    unit text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    reason text NOT NULL,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (unit, name)
);

CREATE TABLE cpq.runtime_setting_change (
    change_id uuid PRIMARY KEY,
    unit text NOT NULL,
    name text NOT NULL,
    value_before text,
    value_after text,
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX runtime_setting_change_by_name ON cpq.runtime_setting_change (name, changed_at);
CREATE TRIGGER runtime_setting_change_is_append_only BEFORE UPDATE OR DELETE ON cpq.runtime_setting_change
FOR EACH ROW EXECUTE FUNCTION cpq.refuse_audit_change();

-- A published policy never changes: the next one has the next version.
CREATE TABLE cpq.approval_policy_version (
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    policy_version integer NOT NULL CHECK (policy_version > 0),
    content jsonb NOT NULL,
    content_sha256 text NOT NULL,
    reason text NOT NULL,
    published_by text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, policy_version)
);
CREATE TRIGGER approval_policy_version_is_append_only BEFORE UPDATE OR DELETE ON cpq.approval_policy_version
FOR EACH ROW EXECUTE FUNCTION cpq.refuse_audit_change();

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['tenant_feature_flag', 'feature_flag_change', 'approval_policy_version'] LOOP
        EXECUTE format('ALTER TABLE cpq.%I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE cpq.%I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format(
            'CREATE POLICY tenant_wall ON cpq.%I TO cpq_api, cpq_worker, cpq_consumer '
            'USING (tenant_id = (SELECT cpq.current_tenant())) '
            'WITH CHECK (tenant_id = (SELECT cpq.current_tenant()))', table_name
        );
        EXECUTE format('CREATE POLICY admin_all ON cpq.%I TO cpq_admin USING (true) WITH CHECK (true)', table_name);
        EXECUTE format('CREATE POLICY observer_reads ON cpq.%I FOR SELECT TO cpq_observer USING (true)', table_name);
        EXECUTE format('CREATE POLICY owner_all ON cpq.%I TO cpq_owner USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END
$$;
