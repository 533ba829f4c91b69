SET lock_timeout = '4s';
DROP TABLE cpq.release_freeze;
