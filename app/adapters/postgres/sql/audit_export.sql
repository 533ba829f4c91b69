-- name: begin_chain
-- A tenant's chain exists from its first record on.
INSERT INTO cpq.audit_export_chain (tenant_id, last_sequence, last_hash)
VALUES (%(tenant_id)s, 0, %(genesis)s)
ON CONFLICT (tenant_id) DO NOTHING;

-- name: head
-- The last record, locked: one transaction at a time adds to a chain.
SELECT last_sequence, last_hash FROM cpq.audit_export_chain WHERE tenant_id = %(tenant_id)s FOR UPDATE;

-- name: append
-- The next records of a chain.
INSERT INTO cpq.audit_export_record (tenant_id, sequence, event_id, body, hash)
SELECT %(tenant_id)s, record.sequence, record.event_id, record.body, record.hash
FROM unnest(%(sequences)s::bigint [], %(event_ids)s::uuid [], %(bodies)s::text [], %(hashes)s::text [])
    AS record (sequence, event_id, body, hash);

-- name: advance
-- The chain's new end.
UPDATE cpq.audit_export_chain SET last_sequence = %(sequence)s, last_hash = %(hash)s WHERE tenant_id = %(tenant_id)s;

-- name: backlog
-- Tenants with records in no segment.
SELECT tenant_id, records, oldest_at FROM cpq.audit_export_backlog();

-- name: records
-- A run of a tenant's records.
SELECT sequence, event_id, body, hash FROM cpq.audit_export_record
WHERE tenant_id = %(tenant_id)s AND sequence BETWEEN %(first)s AND %(last)s
ORDER BY sequence;

-- name: last_segment
-- Where a tenant's segments end.
SELECT coalesce(max(last_sequence), 0) AS last_sequence FROM cpq.audit_export_segment WHERE tenant_id = %(tenant_id)s;

-- name: plan
-- Whoever comes second to the same place leaves it to the first.
INSERT INTO cpq.audit_export_segment (tenant_id, first_sequence, last_sequence, content_sha256, instance_id)
VALUES (%(tenant_id)s, %(first)s, %(last)s, %(content_sha256)s, %(instance_id)s)
ON CONFLICT (tenant_id, first_sequence) DO NOTHING;

-- name: segments_of
-- The segments that an instance writes.
SELECT tenant_id, first_sequence, last_sequence, content_sha256, is_written
FROM cpq.audit_export_segments_of(%(instance_id)s);

-- name: mark_written
-- On disk.
UPDATE cpq.audit_export_segment SET written_at = now()
WHERE tenant_id = %(tenant_id)s AND first_sequence = %(first)s;

-- name: all_segments
-- For the operator: what should be in files, and on which instance.
SELECT tenant_id, first_sequence, last_sequence, content_sha256, instance_id, written_at IS NOT NULL AS is_written
FROM cpq.audit_export_segment
WHERE (%(instance_id)s::text IS NULL OR instance_id = %(instance_id)s)
ORDER BY tenant_id, first_sequence;
