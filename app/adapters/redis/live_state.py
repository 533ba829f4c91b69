"""What Redis is: its limits, what its users may, and what lies in it that no declaration knows. Reads only."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from app.adapters.redis.connection import connect, text
from app.adapters.redis.health import RedisUnreachableError
from app.adapters.redis.keys import Keys
from app.contracts.loader import RedisUser

_TIMEOUT_SECONDS = 3.0
_PAGE = 1000
# Values of a kind that are read for the version of their form.
_VALUES_READ = 100
# Undeclared keys that are named: a program that writes them writes many.
_KEYS_NAMED = 20
_VERSION = "value version of "
_POLICY = ("appendonly", "maxmemory", "maxmemory-policy", "save")
# What the server adds to a user's rules by itself; passwords are nobody's to compare.
_ADDED = frozenset({"sanitize-payload", "resetchannels", "resetkeys", "resetpass", "nopass", "-@all"})


@dataclass(frozen=True)
class LiveRedis:
    """States by item.

    Attributes:
        policy: limits and persistence.
        users: what each user may.
        keys: each undeclared key, and the versions of the values of each kind that says one.
    """

    policy: Mapping[str, str]
    users: Mapping[str, str]
    keys: Mapping[str, str]


def declared_users(users: Mapping[str, RedisUser], environment: str) -> dict[str, str]:
    """What each user of the contract may in an environment, in the words of the server; the unnamed user may nothing."""
    words = {name: {"on", *user.commands, *user.keys_of(environment)} for name, user in users.items()}
    return {_user(name): " ".join(sorted(each)) for name, each in words.items()} | {_user("default"): "off"}


def declared_versions(keys: Keys, live: Mapping[str, str]) -> dict[str, str]:
    """The declared version of the values of each kind that has some."""
    kinds = {item: item.removeprefix(_VERSION) for item in live if item.startswith(_VERSION)}
    return {item: str(keys.declaration(kind).value_version) for item, kind in kinds.items()}


async def look(url: str, password: str, ca_file: str, keys: Keys) -> LiveRedis:
    """Look once, at all keys by pages.

    Raises:
        RedisUnreachableError: no answer in time, or the user was refused.
    """
    client = connect(url, password, ca_file, _TIMEOUT_SECONDS)
    undeclared: list[str] = []
    of_kind: dict[str, list[str]] = defaultdict(list)
    versions: dict[str, set[str]] = defaultdict(set)
    try:
        policy = {text(name): text(value) for name, value in (await client.config_get(*_POLICY)).items()}
        rules = [text(line).split() for line in await client.acl_list()]
        async for found in client.scan_iter(count=_PAGE):
            key = text(found)
            kind = keys.kind_of(key)
            if kind is None:
                undeclared.append(key)
            else:
                of_kind[kind].append(key)
        for kind, names in of_kind.items():
            for name in names[:_VALUES_READ]:
                if text(await client.type(name)) == "string":
                    versions[kind] |= _version(await client.get(name))
    except (RedisError, OSError) as error:
        raise RedisUnreachableError(f"{type(error).__name__}: {error}") from error
    finally:
        await client.aclose()
    users = {
        _user(name): " ".join(sorted({word for word in words if not word.startswith("#")} - _ADDED))
        for _, name, *words in rules
    }
    found_keys = {f"key {key}": "of no declared kind of this environment" for key in sorted(undeclared)[:_KEYS_NAMED]}
    if len(undeclared) > _KEYS_NAMED:
        found_keys["further keys"] = f"{len(undeclared) - _KEYS_NAMED} of no declared kind of this environment"
    found_versions = {f"{_VERSION}{kind}": ", ".join(sorted(seen)) for kind, seen in versions.items() if seen}
    return LiveRedis(policy, users, found_keys | found_versions)


def _version(value: Any) -> set[str]:
    try:
        document = json.loads(value)
    except (TypeError, ValueError):
        return set()
    return {str(document["value_version"])} if isinstance(document, dict) and "value_version" in document else set()


def _user(name: str) -> str:
    return f"user {name}"
