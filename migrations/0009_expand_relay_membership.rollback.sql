SET lock_timeout = '4s';
ALTER TABLE cpq.outbox_event DROP COLUMN refused_contract;
DROP TABLE cpq.relay_member;
