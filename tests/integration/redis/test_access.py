"""Each component has a user of its own that reaches its keys and commands and no others."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from app.adapters.redis.connection import connect
from app.adapters.redis.guard import TIMEOUT_S
from app.contracts.loader import load_redis_keys, load_units
from tests.support.services import Services

FORBIDDEN = (
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "SETUSER", "intruder", "on"),
    ("SHUTDOWN",),
    ("SCRIPT", "FLUSH"),
    ("SUBSCRIBE", "anything"),
)


def test_every_unit_with_a_redis_user_has_one_of_its_own() -> None:
    users = [unit.redis_user for unit in load_units().values() if unit.redis_user]

    assert sorted(users) == sorted(set(users))
    # Figures of the server are collected by a user that no unit has.
    assert {*users, "monitor"} == set(load_redis_keys().users)


@pytest.mark.parametrize("command", FORBIDDEN, ids=" ".join)
async def test_the_api_may_not(redis: Redis, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await redis.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("command", [each for each in FORBIDDEN if each[0] != "KEYS"], ids=" ".join)
async def test_operators_may_not(admin_redis: Redis, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await admin_redis.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "key", ["{here}:{tenant}:session:1", "elsewhere:{tenant}:catalog:1:offering:fiber", "catalog:1"]
)
async def test_nobody_writes_a_key_of_no_declared_kind_or_of_another_environment(
    redis: Redis, admin_redis: Redis, services: Services, tenant_id: str, key: str
) -> None:
    name = key.format(here=services.environment, tenant=tenant_id)
    for client in (redis, admin_redis):
        with pytest.raises(NoPermissionError):
            await client.set(name, "x", px=1000)
    with pytest.raises(NoPermissionError):
        await redis.get(name)
    assert await admin_redis.get(name) is None


@pytest.mark.parametrize(("user", "other"), [("api", "admin"), ("admin", "api")])
async def test_anothers_credential_is_refused(services: Services, user: str, other: str) -> None:
    client = connect(
        f"redis://{user}@{services.address('redis')}/0", services.secret(f"redis_{other}_password"), "", TIMEOUT_S
    )

    with pytest.raises(AuthenticationError):
        await client.get(f"{services.environment}:x:catalog:1")
    await client.aclose()
