-- depends: 0026_expand_migration_backfill
-- budget: lock 200ms, duration 5s
-- Two colours of a role (relay, each consumer group, each worker group) may be up, and one works: which, one row says, with an epoch that
-- moves on at each change. A session names its role (cpq.role) and the epoch that its process holds (cpq.epoch); what it writes after the
-- epoch moved on is refused here. A session without a role, such as an operator's or one of a release before this, is not asked.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.role_epoch (
    role text PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch > 0),
    colour text NOT NULL CHECK (colour IN ('none', 'blue', 'green')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    reason text NOT NULL
);

-- Which processes there are, and which epoch each holds; none while it stands by.
CREATE TABLE cpq.role_process (
    instance_id text PRIMARY KEY,
    role text NOT NULL,
    colour text NOT NULL CHECK (colour IN ('none', 'blue', 'green')),
    release_id text NOT NULL,
    held_epoch bigint,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- The shared lock is held to the end of the transaction and the change of an epoch takes it alone: none of the old epoch commits after it.
-- An advisory lock, because a row's would be written to the row by every transaction of every process.
-- A role without a row is in epoch 0, that of processes without a colour, and a session without an epoch is of those.
CREATE FUNCTION cpq.hold_epoch()
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = cpq, pg_temp AS $$
DECLARE
    ours constant text := coalesce(current_setting('cpq.role', true), '');
    held constant bigint := coalesce(nullif(current_setting('cpq.epoch', true), ''), '0')::bigint;
    present bigint;
BEGIN
    IF ours = '' THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(20263, hashtext(ours));
    present := coalesce((SELECT e.epoch FROM cpq.role_epoch AS e WHERE e.role = ours), 0);
    IF present <> held THEN
        RAISE EXCEPTION 'epoch % of % is not held: it is in epoch %', held, ours, present USING ERRCODE = '55C01';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION cpq.hold_epoch() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cpq.hold_epoch() TO cpq_relay, cpq_consumer, cpq_worker;

CREATE FUNCTION cpq.fence_epoch()
RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM cpq.hold_epoch();
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION cpq.fence_epoch() FROM PUBLIC;

-- Workers: starts, attempts, runs of steps and of reactions, in the order in which they write. Held jobs change with their steps.
CREATE TRIGGER epoch_fence BEFORE UPDATE ON cpq.workflow_reference
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT OR UPDATE ON cpq.external_call_attempt
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE UPDATE ON cpq.fulfillment_task
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT OR UPDATE ON cpq.fallout_case
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE UPDATE ON cpq.reaction
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();

-- The relay: what became of events.
CREATE TRIGGER epoch_fence BEFORE UPDATE ON cpq.outbox_event
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();

-- Consumer groups: positions, what was seen, what was set aside. Their effects are in the same transactions.
CREATE TRIGGER epoch_fence BEFORE INSERT OR UPDATE ON cpq.consumer_offset
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT ON cpq.inbox_event
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT OR UPDATE OR DELETE ON cpq.consumer_parked_event
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT OR DELETE ON cpq.consumer_halt
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT OR UPDATE ON cpq.dead_letter
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
CREATE TRIGGER epoch_fence BEFORE INSERT OR UPDATE ON cpq.audit_export_segment
FOR EACH STATEMENT WHEN (current_setting('cpq.role', true) <> '') EXECUTE FUNCTION cpq.fence_epoch();
