-- name: request
-- One per event and group, with the inbox row.
INSERT INTO cpq.reaction (
    reaction_id, tenant_id, consumer_group, kind, order_id, event_id, step, external_system, request
)
VALUES (
    %(reaction_id)s, %(tenant_id)s, %(group)s, %(kind)s, %(order_id)s, %(event_id)s, %(step)s, %(external_system)s,
    %(request)s
)
ON CONFLICT (consumer_group, event_id) DO NOTHING;
