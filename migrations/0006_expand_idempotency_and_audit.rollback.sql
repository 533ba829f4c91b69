SET lock_timeout = '4s';
DROP TABLE cpq.audit_entry;
DROP FUNCTION cpq.refuse_audit_change();
DROP TABLE cpq.idempotency_record;
