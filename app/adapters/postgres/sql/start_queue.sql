-- name: due
-- Due references of all tenants for which the flag is on, by the function that may look over their walls.
SELECT order_id, tenant_id FROM cpq.due_workflow_references(%(limit)s, %(flag)s, %(default)s);
