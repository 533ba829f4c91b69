SET lock_timeout = '4s';
DROP FUNCTION cpq.due_workflow_references(integer, text, boolean);
