SET lock_timeout = '4s';
DROP TABLE cpq.price_adjustment_tier;
DROP TABLE cpq.product_offering_price;
DROP TABLE cpq.product_offering;
DROP TABLE cpq.catalog_version;
