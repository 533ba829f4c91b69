"""The release's journal has what the role measured, by the limits of this host."""

import json

QUERY = (
    "SELECT json_object_agg(step, json_build_object('state', state, 'evidence', evidence)) FROM cpq.release_step "
    "WHERE run_id = (SELECT run_id FROM cpq.release_run ORDER BY started_at DESC LIMIT 1)"
)


def journal(host):
    """Read the newest release's steps as a role that can only read."""
    read = f'PGPASSWORD=passwordOfTheTest1 psql -h 10.56.3.11 -U cpq_observer -At cpq -c "{QUERY}"'
    return json.loads(host.check_output(read) or "{}")


def test_the_look_before_the_smoke_test_is_kept(host):
    kept = journal(host)

    assert kept["baseline"]["state"] == "succeeded"
    assert list(kept["baseline"]["evidence"]["samples"]) == ["api on molecule-1"]


def test_the_command_that_follows_was_run(host):
    assert journal(host)["after-the-look"]["state"] == "succeeded"


def test_post_checks_are_held_to_the_limits_of_this_host(host):
    post_checks = journal(host)["post-checks"]
    limits = {check["name"]: check["limit"] for check in post_checks["evidence"]["checks"]}

    assert post_checks["state"] == "failed"
    assert limits["api-latency"] == "95 % within 0.2 s"
    assert limits["error-rate"] == "at most 3 %"
    assert limits["kafka-lag"] == "at most 20 records"
    assert limits["database-locks"] == "no session waits for a lock longer than 7 s"
    assert limits["business-success-rate"] == "at least 90 %"
