-- depends: 0001_expand_tenancy
-- The catalog (TMF620 words): immutable published versions of offerings, their prices and quantity tiers.
SET lock_timeout = '4s';
SET statement_timeout = '5s';

CREATE TABLE cpq.catalog_version (
    tenant_id text NOT NULL REFERENCES cpq.tenant,
    catalog_version integer NOT NULL CHECK (catalog_version > 0),
    lifecycle_status text NOT NULL CHECK (lifecycle_status IN ('draft', 'active', 'retired')),
    content_sha256 text NOT NULL,
    published_at timestamptz,
    published_by text,
    PRIMARY KEY (tenant_id, catalog_version)
);
CREATE UNIQUE INDEX catalog_version_one_active ON cpq.catalog_version (tenant_id)
WHERE lifecycle_status = 'active';

CREATE TABLE cpq.product_offering (
    tenant_id text NOT NULL,
    catalog_version integer NOT NULL,
    offering_id text NOT NULL,
    name text NOT NULL,
    product_line text NOT NULL,
    is_sellable boolean NOT NULL,
    service_specification text NOT NULL,
    PRIMARY KEY (tenant_id, catalog_version, offering_id),
    FOREIGN KEY (tenant_id, catalog_version) REFERENCES cpq.catalog_version
);

CREATE TABLE cpq.product_offering_price (
    tenant_id text NOT NULL,
    catalog_version integer NOT NULL,
    offering_id text NOT NULL,
    price_type text NOT NULL CHECK (price_type IN ('oneTime', 'recurring')),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    unit_amount numeric(18, 6) NOT NULL CHECK (unit_amount >= 0),
    recurring_period text CHECK (recurring_period IN ('month', 'year')),
    CHECK ((price_type = 'recurring') = (recurring_period IS NOT NULL)),
    PRIMARY KEY (tenant_id, catalog_version, offering_id, price_type, currency),
    FOREIGN KEY (tenant_id, catalog_version, offering_id) REFERENCES cpq.product_offering
);

-- Range tiers: from min_quantity on, the whole quantity gets the discount.
CREATE TABLE cpq.price_adjustment_tier (
    tenant_id text NOT NULL,
    catalog_version integer NOT NULL,
    offering_id text NOT NULL,
    price_type text NOT NULL CHECK (price_type IN ('oneTime', 'recurring')),
    min_quantity integer NOT NULL CHECK (min_quantity > 0),
    discount_percent numeric(7, 4) NOT NULL CHECK (discount_percent > 0 AND discount_percent <= 100),
    reason text NOT NULL,
    PRIMARY KEY (tenant_id, catalog_version, offering_id, price_type, min_quantity),
    FOREIGN KEY (tenant_id, catalog_version, offering_id) REFERENCES cpq.product_offering
);
