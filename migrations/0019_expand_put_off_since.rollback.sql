SET lock_timeout = '4s';
ALTER TABLE cpq.reaction DROP COLUMN waiting_since;
ALTER TABLE cpq.fulfillment_task DROP COLUMN waiting_since;
