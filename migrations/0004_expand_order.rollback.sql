SET lock_timeout = '4s';
DROP TABLE cpq.fallout_case;
DROP TABLE cpq.workflow_reference;
DROP TABLE cpq.external_call_attempt;
DROP TABLE cpq.fulfillment_task;
DROP TABLE cpq.order_transition;
DROP TABLE cpq.order_item;
DROP TABLE cpq.product_order;
