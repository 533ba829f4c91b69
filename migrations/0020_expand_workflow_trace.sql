-- depends: 0019_expand_put_off_since
-- The trace in which an order was accepted; the events of its fulfillment belong to it.
SET lock_timeout = '4s';
SET statement_timeout = '5s';
ALTER TABLE cpq.workflow_reference ADD COLUMN traceparent text;
