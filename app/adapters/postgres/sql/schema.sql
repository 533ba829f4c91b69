-- name: is_applied
-- The content ledger, not the migration tool's own table: a row says that this very text was run.
SELECT EXISTS (SELECT FROM cpq.migration_ledger WHERE migration = %(migration)s) AS applied;
