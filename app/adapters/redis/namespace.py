"""Whose keys lie in Redis and whose its users may write, for the release checks: two environments must not share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from app.adapters.redis.connection import connect, text
from app.adapters.redis.health import RedisUnreachableError
from app.adapters.redis.keys import Keys

_TIMEOUT_SECONDS = 3.0
_PAGE = 1000


@dataclass(frozen=True)
class Namespace:
    """What Redis says of its keys and users.

    Attributes:
        patterns: the keys that each user may touch, in the words of the server.
        foreign: how many keys do not begin with this environment's name.
        example: the first of these, or nothing.
    """

    patterns: Mapping[str, frozenset[str]]
    foreign: int
    example: str


async def look(url: str, password: str, ca_file: str, keys: Keys) -> Namespace:
    """Look once, at all keys by pages.

    Raises:
        RedisUnreachableError: no answer in time, or the user was refused.
    """
    client = connect(url, password, ca_file, _TIMEOUT_SECONDS)
    foreign: set[str] = set()
    try:
        rules = [text(line).split() for line in await client.acl_list()]
        async for key in client.scan_iter(count=_PAGE):
            if keys.is_foreign(text(key)):
                foreign.add(text(key))
    except (RedisError, OSError) as error:
        raise RedisUnreachableError(f"{type(error).__name__}: {error}") from error
    finally:
        await client.aclose()
    # A selector, which widens what a user may, is in brackets.
    patterns = {
        name: frozenset(word.lstrip("(").rstrip(")") for word in words if "~" in word) for _, name, *words in rules
    }
    return Namespace(patterns, len(foreign), min(foreign, default=""))
