-- name: lock
-- One run at a time; the lock ends with the session.
SELECT pg_try_advisory_lock(%(key)s) AS is_mine;

-- name: published_at
-- When the history of a tenant began to exist.
SELECT published_at FROM cpq.catalog_version WHERE tenant_id = %(tenant_id)s AND catalog_version = 1;

-- name: is_stored
-- Whether an order is there.
SELECT EXISTS (SELECT FROM cpq.product_order WHERE order_id = %(order_id)s) AS is_stored;

-- name: stage_memory
-- A batch fits in: before the first use of a temporary table.
SET temp_buffers = '32MB';

-- name: stage
-- What COPY may write to, emptied by each transaction and gone with the session.
CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS SELECT {columns} FROM {target} WHERE false;

-- name: stage_waterfalls
-- The steps of a price, once for all items of an offering in a quantity.
CREATE TEMPORARY TABLE IF NOT EXISTS generated_waterfall ON COMMIT DELETE ROWS AS
SELECT
    item.tenant_id, item.offering_id, item.quantity, step.price_type, step.step_no, step.step, step.reason,
    step.amount_before, step.amount_after
FROM cpq.quote_item AS item INNER JOIN cpq.quote_price_step AS step USING (quote_id, item_no)
WHERE false;

-- name: copy
-- Rows as they come.
COPY {stage} ({columns}) FROM STDIN;

-- name: take_over
-- Through every constraint and policy.
INSERT INTO {target} ({columns}) SELECT {columns} FROM {stage};

-- name: take_over_waterfalls
-- To each item that has a price the steps that led there.
INSERT INTO cpq.quote_price_step (
    quote_id, tenant_id, item_no, price_type, step_no, step, reason, amount_before, amount_after
)
SELECT
    item.quote_id, item.tenant_id, item.item_no, step.price_type, step.step_no, step.step, step.reason,
    step.amount_before, step.amount_after
FROM generated_quote_item AS item
INNER JOIN generated_waterfall AS step USING (tenant_id, offering_id, quantity)
WHERE item.total_recurring IS NOT NULL;

-- name: analyze
-- Fresh statistics.
ANALYZE {target};
