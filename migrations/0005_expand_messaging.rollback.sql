SET lock_timeout = '4s';
DROP TABLE cpq.order_projection;
DROP TABLE cpq.consumer_offset;
DROP TABLE cpq.inbox_event;
DROP TABLE cpq.relay_shard_lease;
DROP TABLE cpq.outbox_event;
