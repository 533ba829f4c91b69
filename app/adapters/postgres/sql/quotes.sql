-- name: add
-- A new quote with its items, in one statement.
WITH new_quote AS (
    INSERT INTO cpq.quote (
        quote_id, tenant_id, version, aggregate_seq, state, customer_id, currency, catalog_version, valid_until,
        created_by, created_at, updated_at
    ) VALUES (
        %(quote_id)s, %(tenant_id)s, %(version)s, %(aggregate_seq)s, %(state)s, %(customer_id)s, %(currency)s,
        %(catalog_version)s, %(valid_until)s, %(created_by)s, %(created_at)s, %(updated_at)s
    )
)
INSERT INTO cpq.quote_item (quote_id, tenant_id, item_no, action, offering_id, quantity)
SELECT %(quote_id)s, %(tenant_id)s, i.item_no, i.action, i.offering_id, i.quantity
FROM unnest(%(item_nos)s::integer [], %(actions)s::text [], %(offering_ids)s::text [], %(quantities)s::integer [])
    AS i (item_no, action, offering_id, quantity);

-- name: get
-- A quote's own row.
SELECT * FROM cpq.quote WHERE quote_id = %(quote_id)s;

-- name: get_for_update
-- A quote's own row, held until the transaction ends.
SELECT * FROM cpq.quote WHERE quote_id = %(quote_id)s FOR UPDATE;

-- name: items
-- The items of a quote.
SELECT * FROM cpq.quote_item WHERE quote_id = %(quote_id)s ORDER BY item_no;

-- name: price_steps
-- The waterfalls of all items of a quote; one-time before recurring.
SELECT * FROM cpq.quote_price_step WHERE quote_id = %(quote_id)s ORDER BY item_no, price_type, step_no;

-- name: save
-- The new state, unless another transaction wrote first.
UPDATE cpq.quote SET
    version = %(version)s, aggregate_seq = %(aggregate_seq)s, state = %(state)s, priced_at = %(priced_at)s,
    total_one_time = %(total_one_time)s, total_recurring = %(total_recurring)s, updated_at = %(updated_at)s
WHERE quote_id = %(quote_id)s AND version = %(expected_version)s;

-- name: delete_price_steps
-- Earlier waterfalls make room for new ones.
DELETE FROM cpq.quote_price_step WHERE quote_id = %(quote_id)s;

-- name: store_prices
-- The items' totals and all waterfalls, in one statement.
WITH priced AS (
    UPDATE cpq.quote_item AS item
    SET total_one_time = i.total_one_time, total_recurring = i.total_recurring
    FROM unnest(%(item_nos)s::integer [], %(totals_one_time)s::numeric [], %(totals_recurring)s::numeric [])
        AS i (item_no, total_one_time, total_recurring)
    WHERE item.quote_id = %(quote_id)s AND item.item_no = i.item_no
)
INSERT INTO cpq.quote_price_step (
    quote_id, tenant_id, item_no, price_type, step_no, step, reason, amount_before, amount_after
)
SELECT
    %(quote_id)s, %(tenant_id)s, s.item_no, s.price_type, s.step_no, s.step, s.reason, s.amount_before, s.amount_after
FROM unnest(
    %(step_item_nos)s::integer [], %(price_types)s::text [], %(step_nos)s::integer [], %(steps)s::text [],
    %(reasons)s::text [], %(amounts_before)s::numeric [], %(amounts_after)s::numeric []
) AS s (item_no, price_type, step_no, step, reason, amount_before, amount_after);
