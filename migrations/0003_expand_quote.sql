-- depends: 0002_expand_catalog
-- Quotes (TMF648 states), their items, and the price waterfall: one row per step with its reason.
-- Amounts are numeric without a scale: a total keeps its currency's own decimals (0 for JPY, 3 for KWD), a step all of its own.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.quote (
    quote_id uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    version bigint NOT NULL DEFAULT 1,
    aggregate_seq bigint NOT NULL DEFAULT 0,
    state text NOT NULL
    CHECK (state IN ('inProgress', 'pending', 'approved', 'accepted', 'rejected', 'cancelled')),
    customer_id text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    catalog_version integer NOT NULL,
    valid_until timestamptz NOT NULL,
    priced_at timestamptz,
    total_one_time numeric CHECK (total_one_time >= 0 AND total_one_time < 1e15),
    total_recurring numeric CHECK (total_recurring >= 0 AND total_recurring < 1e15),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, catalog_version) REFERENCES cpq.catalog_version
);

CREATE TABLE cpq.quote_item (
    quote_id uuid NOT NULL REFERENCES cpq.quote,
    tenant_id text NOT NULL,
    item_no integer NOT NULL CHECK (item_no > 0),
    action text NOT NULL CHECK (action IN ('add', 'modify', 'delete', 'noChange')),
    offering_id text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    total_one_time numeric CHECK (total_one_time >= 0 AND total_one_time < 1e15),
    total_recurring numeric CHECK (total_recurring >= 0 AND total_recurring < 1e15),
    PRIMARY KEY (quote_id, item_no)
);

CREATE TABLE cpq.quote_price_step (
    quote_id uuid NOT NULL,
    tenant_id text NOT NULL,
    item_no integer NOT NULL,
    price_type text NOT NULL CHECK (price_type IN ('oneTime', 'recurring')),
    step_no integer NOT NULL CHECK (step_no > 0),
    step text NOT NULL CHECK (step IN ('list', 'quantity', 'tierDiscount', 'rounding')),
    reason text NOT NULL,
    amount_before numeric NOT NULL,
    amount_after numeric NOT NULL,
    PRIMARY KEY (quote_id, item_no, price_type, step_no),
    FOREIGN KEY (quote_id, item_no) REFERENCES cpq.quote_item
);
