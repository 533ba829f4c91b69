"""The commands that the role runs judge this host for what it is, with a remedy for each failure."""

import json

LIMITS = {
    "database_connections_percent": 80,
    "database_lock_wait_seconds": 2,
    "kafka_unavailable_partitions": 0,
    "camunda_unhealthy_partitions": 0,
    "redis_memory_percent": 90,
    "api_error_percent": 1,
    "api_p95_seconds": 0.5,
    "outbox_backlog_records": 1000,
    "open_incidents_and_fallout": 10,
    "consumer_lag_records": 1000,
    "business_success_percent": 95,
}
SURROUNDINGS = {
    "targets": [],
    "observation_seconds": 0.1,
    "kafka_brokers": 1,
    "kafka_topics": [],
    "limits": LIMITS,
    "window": {"samples": 1, "interval_seconds": 0.1, "bad_in_a_row": 1, "bad_percent": 0},
}


def test_the_platform_is_up_for_the_timers_of_the_commands(host):
    target = host.service("cpq-oms.target")

    assert target.is_running
    assert target.is_enabled
    for name in ("drift", "reconcile", "smoke"):
        assert host.service(f"cpq-oms-{name}.timer").is_enabled


def judge(host):
    done = host.run(f"echo '{json.dumps(SURROUNDINGS)}' | cpq-oms-admin --json release precheck")
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_what_is_sound_passes(host):
    checks = judge(host)

    assert checks["database"]["verdict"] == "passed", checks["database"]
    assert checks["outbox-backlog"]["verdict"] == "passed", checks["outbox-backlog"]


def test_what_is_not_there_fails_with_a_remedy(host):
    checks = judge(host)

    for name in ("kafka", "camunda", "redis"):
        assert checks[name]["verdict"] == "failed"
        assert "no answer" in checks[name]["measured"]
        assert "systemctl status" in checks[name]["remedy"]
