SET lock_timeout = '4s';
DROP INDEX cpq.external_call_attempt_by_key;
DROP POLICY callback_wall ON cpq.audit_entry;
DROP POLICY callback_wall ON cpq.product_order;
DROP POLICY callback_wall ON cpq.external_call_attempt;
DROP TABLE cpq.external_callback;
DROP FUNCTION cpq.settle_external_call(text, bigint, text, integer, interval, interval, text);
DROP FUNCTION cpq.admit_external_call(text, interval, integer, integer, interval);
DROP TABLE cpq.external_system_guard;
