-- name: is_applied
-- Whether a migration is in the ledger.
SELECT EXISTS (SELECT FROM cpq.migration_ledger WHERE migration = %(migration)s) AS is_applied;
