-- name: admit
-- May a call go out now, seen by all processes? One round trip, and no wait for the disk.
SELECT verdict, retry_after, call_generation, must_report
FROM cpq.admit_external_call(
    %(system)s, %(call_interval)s::interval, %(burst)s, %(unproven_limit)s, %(patience)s::interval
);

-- name: settle
-- How an admitted call went; the breaker's state after it.
SELECT cpq.settle_external_call(
    %(system)s, %(generation)s, %(outcome)s, %(failure_limit)s, %(open_for)s::interval, %(hold_for)s::interval, %(error)s
) AS state;
