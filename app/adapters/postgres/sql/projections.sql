-- name: put_orders
-- A later state is never overwritten by an earlier one, in whatever order they arrive.
INSERT INTO cpq.order_projection AS projection (
    order_id, tenant_id, quote_id, customer_id, state, applied_seq, currency, total_one_time, total_recurring,
    updated_at
)
SELECT
    snapshot.order_id, %(tenant_id)s, snapshot.quote_id, snapshot.customer_id, snapshot.state, snapshot.applied_seq,
    snapshot.currency, snapshot.total_one_time, snapshot.total_recurring, snapshot.updated_at
FROM unnest(
    %(order_ids)s::uuid [], %(quote_ids)s::uuid [], %(customer_ids)s::text [], %(states)s::text [],
    %(applied_seqs)s::bigint [], %(currencies)s::text [], %(totals_one_time)s::numeric [],
    %(totals_recurring)s::numeric [], %(updated_ats)s::timestamptz []
) AS snapshot (
    order_id, quote_id, customer_id, state, applied_seq, currency, total_one_time, total_recurring, updated_at
)
ON CONFLICT (order_id) DO UPDATE
SET
    quote_id = excluded.quote_id, customer_id = excluded.customer_id, state = excluded.state,
    applied_seq = excluded.applied_seq, currency = excluded.currency, total_one_time = excluded.total_one_time,
    total_recurring = excluded.total_recurring, updated_at = excluded.updated_at
WHERE projection.applied_seq < excluded.applied_seq
RETURNING order_id;
