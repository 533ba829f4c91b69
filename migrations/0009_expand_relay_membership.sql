-- depends: 0008_expand_row_level_security
-- Which relays live, so that each holds its share of the shards; and by which contract a parked event was refused, so that
-- a relay with another one judges it anew.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.relay_member (
    owner text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

ALTER TABLE cpq.outbox_event ADD COLUMN refused_contract text;
