"""What Redis says of itself, for the release checks and the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import RedisError

from app.adapters.redis.connection import connect
from app.application.operations import OperationError

_TIMEOUT_SECONDS = 3.0


class RedisUnreachableError(OperationError):
    """Redis did not answer or refused the user; the message says which."""


@dataclass(frozen=True)
class RedisState:
    """Memory in use and allowed; `limit_bytes` is 0 where Redis has no limit."""

    used_bytes: int
    limit_bytes: int
    policy: str


async def redis_state(url: str, password: str, ca_file: str) -> RedisState:
    """Ask for memory figures.

    Raises:
        RedisUnreachableError: no answer in time, or the user was refused.
    """
    client = connect(url, password, ca_file, _TIMEOUT_SECONDS)
    try:
        info = await client.info("memory")
    except (RedisError, OSError) as error:
        raise RedisUnreachableError(f"{type(error).__name__}: {error}") from error
    finally:
        await client.aclose()
    return RedisState(int(info["used_memory"]), int(info["maxmemory"]), str(info["maxmemory_policy"]))
