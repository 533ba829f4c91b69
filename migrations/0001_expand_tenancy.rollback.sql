SET lock_timeout = '4s';
DROP FUNCTION cpq.current_tenant();
DROP TABLE cpq.tenant;
DROP SCHEMA cpq;
