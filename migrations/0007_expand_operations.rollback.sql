SET lock_timeout = '4s';
DROP TABLE cpq.admin_run;
DROP TABLE cpq.release_step;
DROP TABLE cpq.release_run;
DROP TABLE cpq.process_deployment;
DROP TABLE cpq.worker_registration;
DROP TABLE cpq.feature_flag;
