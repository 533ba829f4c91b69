-- depends: 0005_expand_messaging
-- Durable idempotency records and append-only audit entries.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.idempotency_record (
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    principal text NOT NULL,
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_sha256 text NOT NULL,
    status_code integer NOT NULL,
    response_headers jsonb NOT NULL,
    response_body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal, idempotency_key)
);

CREATE TABLE cpq.audit_entry (
    audit_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target_type text NOT NULL,
    target_id text NOT NULL,
    reason text,
    before_state jsonb,
    after_state jsonb,
    request_id text,
    traceparent text,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX audit_entry_by_target ON cpq.audit_entry (tenant_id, target_type, target_id, occurred_at);

CREATE FUNCTION cpq.refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are append-only';
END
$$;
CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE OR DELETE ON cpq.audit_entry
FOR EACH ROW EXECUTE FUNCTION cpq.refuse_audit_change();
