SET lock_timeout = '4s';
DROP FUNCTION cpq.current_tenant();
DROP TABLE cpq.tenant;
DROP TABLE cpq.migration_ledger;
DROP SCHEMA cpq;
