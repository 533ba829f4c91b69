-- name: listen
-- Whoever changes a setting notifies.
LISTEN configuration;

-- name: of_unit
-- What operators have set for this unit; a value for the unit itself comes after, and so wins over, one for all.
SELECT name, value FROM cpq.runtime_setting WHERE unit IN ('*', %(unit)s) ORDER BY unit = %(unit)s;
