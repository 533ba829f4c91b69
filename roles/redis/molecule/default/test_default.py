"""Each user reaches its own keys and commands; nothing outlives a restart."""

import pytest
import redis

UNIT = "redis-server.service"


def connect(user, password):
    return redis.Redis("10.56.3.11", 6379, username=user, password=password, socket_timeout=5)


def test_server_runs_and_starts_with_the_host(host):
    service = host.service(UNIT)

    assert service.is_running, host.check_output(f"journalctl --no-pager --lines=40 --unit={UNIT}")
    assert service.is_enabled


def test_user_reaches_its_keys_and_no_others():
    clerk = connect("clerk", "clerkPasswordOfTheTest1")

    assert clerk.set("shop:1", "x", ex=10)
    assert clerk.get("shop:1") == b"x"
    with pytest.raises(redis.exceptions.NoPermissionError):
        clerk.set("other:1", "x")
    with pytest.raises(redis.exceptions.NoPermissionError):
        clerk.flushall()


def test_wrong_passwords_and_the_default_user_are_refused():
    with pytest.raises(redis.exceptions.AuthenticationError):
        connect("clerk", "wrong").get("shop:1")
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis("10.56.3.11", 6379, socket_timeout=5).ping()


def test_memory_is_bounded_and_nothing_is_kept_on_disk():
    admin = connect("admin", "adminPasswordOfTheTest1")

    assert admin.config_get("maxmemory")["maxmemory"] == str(128 * 1024 * 1024)
    assert admin.config_get("maxmemory-policy")["maxmemory-policy"] == "allkeys-lfu"
    assert admin.config_get("save")["save"] == ""
    assert admin.config_get("appendonly")["appendonly"] == "no"
