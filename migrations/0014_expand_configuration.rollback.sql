SET lock_timeout = '4s';
DROP TABLE cpq.approval_policy_version;
DROP TABLE cpq.runtime_setting_change;
DROP TABLE cpq.runtime_setting;
DROP TABLE cpq.feature_flag_change;
DROP FUNCTION cpq.refuse_decided_flag_change();
DROP TABLE cpq.tenant_feature_flag;
ALTER TABLE cpq.feature_flag DROP COLUMN is_operator_set;
