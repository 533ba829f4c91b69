-- name: due
-- Due references of all tenants, by the function that may look over their walls.
SELECT order_id, tenant_id FROM cpq.due_workflow_references(%(limit)s);
