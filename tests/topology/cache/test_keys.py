"""What the units and the tests before this one left in Redis is of declared kinds, and each key ends by itself."""

from __future__ import annotations

import redis

from app.adapters.redis.keys import Keys
from app.contracts.loader import load_redis_keys
from tests.support.released_host import find_host


def test_every_key_is_declared_and_has_an_end() -> None:
    host = find_host()
    keys = Keys(load_redis_keys(), host.environment)
    client = redis.Redis(host.address, username="admin", password=host.secret("redis_admin_password"), socket_timeout=5)
    found = {key.decode(): client.pttl(key) for key in client.scan_iter(count=1000)}
    client.close()

    assert {key for key in found if keys.kind_of(key) is None} == set()
    # -1: for ever; -2: gone meanwhile.
    assert {key for key, end in found.items() if end == -1} == set()
