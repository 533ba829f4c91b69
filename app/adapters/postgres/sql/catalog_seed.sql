-- name: tenant
-- A demo tenant, once.
INSERT INTO cpq.tenant (tenant_id, display_name, default_currency)
VALUES (%(tenant_id)s, %(display_name)s, %(default_currency)s)
ON CONFLICT (tenant_id) DO NOTHING;

-- name: active_version
-- What the tenant sells from now.
SELECT catalog_version, content_sha256 FROM cpq.catalog_version
WHERE tenant_id = %(tenant_id)s AND lifecycle_status = 'active';

-- name: insert_version
-- A version is published whole, in the transaction that inserts its offerings.
INSERT INTO cpq.catalog_version (tenant_id, catalog_version, lifecycle_status, content_sha256, published_at, published_by)
VALUES (%(tenant_id)s, %(catalog_version)s, 'active', %(content_sha256)s, now(), %(published_by)s);

-- name: insert_draft
-- A version that nobody sells from yet.
INSERT INTO cpq.catalog_version (tenant_id, catalog_version, lifecycle_status, content_sha256)
VALUES (%(tenant_id)s, %(catalog_version)s, 'draft', %(content_sha256)s);

-- name: insert_offering
-- One product offering.
INSERT INTO cpq.product_offering (tenant_id, catalog_version, offering_id, name, product_line, is_sellable, service_specification)
VALUES (%(tenant_id)s, %(catalog_version)s, %(offering_id)s, %(name)s, %(product_line)s, %(is_sellable)s, %(service_specification)s);

-- name: insert_price
-- One of its prices.
INSERT INTO cpq.product_offering_price (tenant_id, catalog_version, offering_id, price_type, currency, unit_amount, recurring_period)
VALUES (%(tenant_id)s, %(catalog_version)s, %(offering_id)s, %(price_type)s, %(currency)s, %(unit_amount)s, %(recurring_period)s);

-- name: insert_tier
-- A discount from a quantity on.
INSERT INTO cpq.price_adjustment_tier (tenant_id, catalog_version, offering_id, price_type, min_quantity, discount_percent, reason)
VALUES (%(tenant_id)s, %(catalog_version)s, %(offering_id)s, %(price_type)s, %(min_quantity)s, %(discount_percent)s, %(reason)s);
