-- name: value
-- What is set now, held.
SELECT value FROM cpq.runtime_setting WHERE unit = %(unit)s AND name = %(name)s FOR UPDATE;

-- name: put
-- An operator's value.
INSERT INTO cpq.runtime_setting (unit, name, value, reason, updated_by)
VALUES (%(unit)s, %(name)s, %(value)s, %(reason)s, %(operator)s)
ON CONFLICT (unit, name) DO UPDATE
SET value = excluded.value, reason = excluded.reason, updated_by = excluded.updated_by, updated_at = now();

-- name: remove
-- The value that units were started with counts again.
DELETE FROM cpq.runtime_setting WHERE unit = %(unit)s AND name = %(name)s;

-- name: record
-- The history of settings.
INSERT INTO cpq.runtime_setting_change (change_id, unit, name, value_before, value_after, reason, changed_by)
VALUES (%(change_id)s, %(unit)s, %(name)s, %(before)s, %(value)s, %(reason)s, %(operator)s);

-- name: notify
-- Wakes every unit on commit.
SELECT pg_notify('configuration', '');

-- name: all
-- What is set.
SELECT unit, name, value, reason, updated_by, updated_at FROM cpq.runtime_setting ORDER BY name, unit;

-- name: history
-- The latest changes.
SELECT unit, name, value_before, value_after, reason, changed_by, changed_at FROM cpq.runtime_setting_change
ORDER BY changed_at DESC, change_id DESC LIMIT 50;
