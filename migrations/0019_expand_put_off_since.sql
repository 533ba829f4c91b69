-- depends: 0018_expand_halts_and_discards
-- Since when an external system puts off what a step or a reaction asked of it: such runs are not counted, so without this
-- nothing would ever end them.
SET lock_timeout = '4s';
SET statement_timeout = '5s';
ALTER TABLE cpq.fulfillment_task ADD COLUMN waiting_since timestamptz;
ALTER TABLE cpq.reaction ADD COLUMN waiting_since timestamptz;
