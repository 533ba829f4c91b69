-- name: schema
-- Before the first migrations there is none.
SELECT to_regnamespace('cpq') IS NULL AS missing;

-- name: tables
-- Everything a table privilege can be given on.
SELECT relname::text AS name
FROM pg_class
WHERE relnamespace = 'cpq'::regnamespace AND relkind IN ('r', 'p', 'v', 'm');

-- name: functions
-- Functions as the contract writes them: name(type, type).
SELECT p.proname || '(' || (SELECT coalesce(string_agg(format_type(t, NULL), ', '), '') FROM unnest(p.proargtypes) AS t) || ')' AS name
FROM pg_proc AS p
WHERE p.pronamespace = 'cpq'::regnamespace;

-- name: roles
-- Who exists at all.
SELECT rolname::text AS name FROM pg_roles;

-- name: present
-- Every privilege somebody other than the owner has in the schema; PUBLIC has execute on a new function by default.
SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role, 'table' AS kind, c.relname::text AS name, a.privilege_type AS privilege
FROM pg_class AS c, aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'cpq'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND a.grantee <> c.relowner
UNION ALL
SELECT
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, 'function',
    p.proname || '(' || (SELECT coalesce(string_agg(format_type(t, NULL), ', '), '') FROM unnest(p.proargtypes) AS t) || ')', a.privilege_type
FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
WHERE p.pronamespace = 'cpq'::regnamespace AND a.grantee <> p.proowner
UNION ALL
SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, 'schema', n.nspname::text, a.privilege_type
FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
WHERE n.nspname = 'cpq' AND a.grantee <> n.nspowner;
