-- name: add
-- A new order with its items and first transition, in one statement.
WITH new_order AS (
    INSERT INTO cpq.product_order (
        order_id, tenant_id, quote_id, version, aggregate_seq, state, customer_id, currency, catalog_version,
        total_one_time, total_recurring, created_by, created_at, updated_at
    ) VALUES (
        %(order_id)s, %(tenant_id)s, %(quote_id)s, %(version)s, %(aggregate_seq)s, %(state)s, %(customer_id)s,
        %(currency)s, %(catalog_version)s, %(total_one_time)s, %(total_recurring)s, %(created_by)s, %(created_at)s,
        %(updated_at)s
    )
), new_transition AS (
    INSERT INTO cpq.order_transition (
        order_id, tenant_id, aggregate_seq, from_state, to_state, reason, actor, occurred_at
    ) VALUES (
        %(order_id)s, %(tenant_id)s, %(aggregate_seq)s, %(from_state)s, %(to_state)s, %(reason)s, %(actor)s,
        %(occurred_at)s
    )
)
INSERT INTO cpq.order_item (
    order_id, tenant_id, item_no, action, offering_id, quantity, service_specification, total_one_time, total_recurring
)
SELECT
    %(order_id)s, %(tenant_id)s, i.item_no, i.action, i.offering_id, i.quantity, i.service_specification,
    i.total_one_time, i.total_recurring
FROM unnest(
    %(item_nos)s::integer [], %(actions)s::text [], %(offering_ids)s::text [], %(quantities)s::integer [],
    %(service_specifications)s::text [], %(totals_one_time)s::numeric [], %(totals_recurring)s::numeric []
) AS i (
    item_no, action, offering_id, quantity, service_specification, total_one_time, total_recurring
);

-- name: get
-- An order's own row.
SELECT * FROM cpq.product_order WHERE order_id = %(order_id)s;

-- name: get_for_update
-- An order's own row, held until the transaction ends.
SELECT * FROM cpq.product_order WHERE order_id = %(order_id)s FOR UPDATE;

-- name: items
-- The items of an order.
SELECT * FROM cpq.order_item WHERE order_id = %(order_id)s ORDER BY item_no;

-- name: id_for_quote
-- What a quote became.
SELECT order_id FROM cpq.product_order WHERE quote_id = %(quote_id)s;

-- name: save
-- The new state with its transition, unless another transaction wrote first: then neither is stored.
WITH changed AS (
    UPDATE cpq.product_order SET
        version = %(version)s, aggregate_seq = %(aggregate_seq)s, state = %(state)s, updated_at = %(updated_at)s
    WHERE order_id = %(order_id)s AND version = %(expected_version)s
    RETURNING order_id, tenant_id
)
INSERT INTO cpq.order_transition (
    order_id, tenant_id, aggregate_seq, from_state, to_state, reason, actor, occurred_at
)
SELECT
    order_id, tenant_id, %(aggregate_seq)s, %(from_state)s, %(to_state)s, %(reason)s, %(actor)s, %(occurred_at)s
FROM changed;
