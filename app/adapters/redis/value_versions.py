"""Values of one form in Redis: how many keys have it, and which. Reads only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.adapters.redis.connection import connect, text
from app.adapters.redis.health import RedisUnreachableError
from app.adapters.redis.keys import Keys
from app.application.release_plan.model import Answer

_TIMEOUT_SECONDS = 3.0
_PAGE = 1000
_NAMED = 10


async def of_version(url: str, password: str, ca_file: str, keys: Keys, form: tuple[str, int]) -> Answer:
    """Count the keys whose values are of one form, a kind of keys and the version that its values say, at all keys by pages.

    Raises:
        RedisUnreachableError: no answer in time, or the user was refused.
        KeyRefusedError: nobody declared the kind.
    """
    kind, version = form
    keys.declaration(kind)
    client = connect(url, password, ca_file, _TIMEOUT_SECONDS)
    found: set[str] = set()
    cursor = 0
    try:
        while True:
            cursor, page = await client.scan(cursor, count=_PAGE)
            names = [name for each in page if keys.kind_of(name := text(each)) == kind]
            found |= await _saying(client, names, version)
            if cursor == 0:
                break
    except (RedisError, OSError) as error:
        raise RedisUnreachableError(f"{type(error).__name__}: {error}") from error
    finally:
        await client.aclose()
    return Answer(len(found), tuple(sorted(found)[:_NAMED]))


async def _saying(client: Redis, names: Sequence[str], version: int) -> set[str]:
    if not names:
        return set()
    async with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.get(name)
        values = await pipeline.execute(raise_on_error=False)
    return {name for name, value in zip(names, values, strict=True) if _says(value, version)}


def _says(value: Any, version: int) -> bool:
    # A key of another type than a string says no version.
    if value is None or isinstance(value, ResponseError):
        return False
    try:
        document = json.loads(value)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("value_version") == version
