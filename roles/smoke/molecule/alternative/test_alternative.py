"""The role, applied once more by itself, reads as the named client, of the named tenant, with the named Python."""

import hashlib
import re

import redis


def test_each_step_is_shown_and_nothing_is_made(host, apply_role):
    count = (
        "PGPASSWORD=passwordOfTheTest1 psql -h 10.56.3.11 -U cpq_observer -At cpq -c 'SELECT count(*) FROM cpq.quote'"
    )
    done = apply_role()

    assert done.returncode == 0, done.stdout
    assert re.search(r"migrations +ok .* 2 applied", done.stdout)
    assert re.search(r"catalog +ok .* offerings of globex-mobile", done.stdout)
    assert re.search(r"latest order +ok .* the tenant has no completed order yet", done.stdout)
    assert host.check_output(count) == "0"


def test_the_api_counted_the_reads_for_the_named_client():
    client = hashlib.sha256(b"auditor").hexdigest()[:32]
    admin = redis.Redis.from_url("redis://admin:passwordOfTheTest1@10.56.3.11:6379/0")
    assert admin.zrange("molecule:globex-mobile:index:rate-limit", 0, -1) == [
        f"molecule:globex-mobile:rate-limit:{client}:read".encode()
    ]
