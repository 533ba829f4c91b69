"""What lies in Redis, for operators: which keys are used most, how many there are of each kind, and which nobody declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.adapters.redis.connection import connect, text
from app.adapters.redis.health import RedisUnreachableError
from app.adapters.redis.keys import Keys

_TIMEOUT_SECONDS = 3.0
_PAGE = 1000


@dataclass(frozen=True)
class Inspection:
    """One look at all keys.

    Attributes:
        hot: the keys used most, each with its kind, its use (a logarithmic figure from 0 to 255) and its bytes.
        counts: how many keys of a kind a tenant has, by `kind tenant`, with the declared limit.
        undeclared: keys of no declared kind.
    """

    hot: Sequence[dict[str, Any]]
    counts: dict[str, dict[str, int]]
    undeclared: Sequence[str]


async def inspect(url: str, password: str, ca_file: str, keys: Keys, most: int) -> Inspection:
    """Look at every key once, a page at a time.

    Args:
        url: redis://user@host:port/database, or rediss:// for TLS.
        password: the user's.
        ca_file: the roots that the server's certificate may be of.
        keys: the declared keys.
        most: how many of the hot ones to show.

    Raises:
        RedisUnreachableError: no answer in time, the user was refused, or the server does not count uses.
    """
    client = connect(url, password, ca_file, _TIMEOUT_SECONDS)
    uses: dict[str, int] = {}
    try:
        cursor = 0
        while True:
            cursor, page = await client.scan(cursor, count=_PAGE)
            uses |= await _uses(client, [text(key) for key in page])
            if cursor == 0:
                break
        hottest = sorted(uses, key=lambda key: (-uses[key], key))[:most]
        hot = [
            {"key": key, "kind": keys.kind_of(key), "use": uses[key], "bytes": await client.memory_usage(key)}
            for key in hottest
        ]
    except ResponseError as error:
        raise RedisUnreachableError(f"{error}; hot keys need maxmemory-policy allkeys-lfu") from error
    except (RedisError, OSError) as error:
        raise RedisUnreachableError(f"{type(error).__name__}: {error}") from error
    finally:
        await client.aclose()
    counted = Counter(f"{kind} {key.split(':')[1]}" for key in uses if (kind := keys.kind_of(key)))
    counts = {
        who: {"keys": count, "limit": keys.declaration(who.split()[0]).max_keys_per_tenant}
        for who, count in sorted(counted.items())
    }
    return Inspection(hot, counts, sorted(key for key in uses if keys.kind_of(key) is None))


async def _uses(client: Redis, page: Sequence[str]) -> dict[str, int]:
    async with client.pipeline(transaction=False) as pipeline:
        for key in page:
            pipeline.object("FREQ", key)
        answers = await pipeline.execute(raise_on_error=False)
    uses = {}
    for key, answer in zip(page, answers, strict=True):
        if isinstance(answer, ResponseError):
            raise answer
        if answer is not None:  # None: gone since it was listed
            uses[key] = int(answer)
    return uses
