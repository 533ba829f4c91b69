SET lock_timeout = '4s';
DROP INDEX cpq.product_order_open;
DROP INDEX cpq.workflow_reference_live;
DROP INDEX cpq.order_transition_ended;
DROP INDEX cpq.external_call_attempt_by_time;
