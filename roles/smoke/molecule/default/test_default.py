"""The role, applied once more by itself, sees the database and names the first thing that is not there."""


def test_each_step_is_shown_until_one_is_not_seen(apply_role):
    done = apply_role()

    assert done.returncode == 0, done.stdout
    assert "run migrations        ok" in done.stdout
    assert "seed minimal catalog  FAILED" in done.stdout
    assert "tenant acme-telecom has no active catalog version" in done.stdout


def test_the_observer_can_only_read(host):
    query = "PGPASSWORD=passwordOfTheTest1 psql -h 10.56.3.11 -U cpq_observer cpq -c 'DELETE FROM cpq.tenant'"

    assert "permission denied" in host.run(query).stderr
