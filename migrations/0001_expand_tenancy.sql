-- The ledger of migrations, tenants, and the one function every row-level policy asks for the transaction's tenant.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE SCHEMA IF NOT EXISTS cpq;

-- Which file was applied with which content: an edited file is refused. First of all tables, so that each migration,
-- this one included, enters itself in its own transaction.
CREATE TABLE cpq.migration_ledger (
    migration text PRIMARY KEY,
    content_sha256 text NOT NULL,
    release_id text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cpq.tenant (
    tenant_id text PRIMARY KEY CHECK (tenant_id ~ '^[a-z][a-z0-9-]{1,62}$'),
    display_name text NOT NULL,
    default_currency text NOT NULL CHECK (default_currency ~ '^[A-Z]{3}$'),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- An unset tenant is an error, not an empty result: a forgotten SET must never look like "no data".
CREATE FUNCTION cpq.current_tenant() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    tenant text := current_setting('cpq.tenant_id', true);
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RAISE EXCEPTION 'cpq.tenant_id is not set in this transaction' USING ERRCODE = '42501';
    END IF;
    RETURN tenant;
END
$$;
