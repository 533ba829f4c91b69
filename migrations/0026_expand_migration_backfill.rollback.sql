SET lock_timeout = '4s';
DROP TABLE cpq.migration_backfill;
