SET lock_timeout = '4s';
DROP TABLE cpq.quote_price_step;
DROP TABLE cpq.quote_item;
DROP TABLE cpq.quote;
