-- name: active_version
-- The one version that new quotes are made from.
SELECT catalog_version FROM cpq.catalog_version
WHERE tenant_id = %(tenant_id)s AND lifecycle_status = 'active';

-- name: edition
-- What the version holds.
SELECT catalog_version, content_sha256 FROM cpq.catalog_version
WHERE tenant_id = %(tenant_id)s AND catalog_version = %(catalog_version)s;

-- name: offerings
-- The named offerings of a version, or all sellable ones, with prices and tiers as arrays of their columns.
SELECT
    o.offering_id, o.name, o.product_line, o.is_sellable, o.service_specification,
    p.price_types, p.currencies, p.unit_amounts, p.recurring_periods,
    t.tier_price_types, t.min_quantities, t.discount_percents, t.reasons
FROM cpq.product_offering AS o
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_agg(price_type ORDER BY price_type, currency), '{}') AS price_types,
        coalesce(array_agg(currency ORDER BY price_type, currency), '{}') AS currencies,
        coalesce(array_agg(unit_amount ORDER BY price_type, currency), '{}') AS unit_amounts,
        coalesce(array_agg(recurring_period ORDER BY price_type, currency), '{}') AS recurring_periods
    FROM cpq.product_offering_price AS price
    WHERE
        price.tenant_id = o.tenant_id AND price.catalog_version = o.catalog_version
        AND price.offering_id = o.offering_id
) AS p
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_agg(price_type ORDER BY price_type, min_quantity), '{}') AS tier_price_types,
        coalesce(array_agg(min_quantity ORDER BY price_type, min_quantity), '{}') AS min_quantities,
        coalesce(array_agg(discount_percent ORDER BY price_type, min_quantity), '{}') AS discount_percents,
        coalesce(array_agg(reason ORDER BY price_type, min_quantity), '{}') AS reasons
    FROM cpq.price_adjustment_tier AS tier
    WHERE
        tier.tenant_id = o.tenant_id AND tier.catalog_version = o.catalog_version
        AND tier.offering_id = o.offering_id
) AS t
WHERE
    o.tenant_id = %(tenant_id)s AND o.catalog_version = %(catalog_version)s
    AND CASE WHEN %(offering_ids)s::text [] IS NULL THEN o.is_sellable ELSE o.offering_id = any(%(offering_ids)s) END
ORDER BY o.offering_id;
