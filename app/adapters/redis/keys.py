"""Redis keys, rendered from app/contracts/redis_keys.yml: a key that is not declared there cannot be made."""

from __future__ import annotations

import re

from app.contracts.loader import RedisKey, RedisKeys

_PART = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class KeyRefusedError(Exception):
    """The key is not declared, or a part of it is missing, unknown, or could be taken for another part."""


class Keys:
    """Renders the declared key patterns of one environment.

    Attributes:
        environment: its name, the first part of each key.
    """

    def __init__(self, declared: RedisKeys, environment: str) -> None:
        self._declared = declared.keys
        self.environment = environment
        self._patterns = {name: _expression(key.pattern, environment) for name, key in declared.keys.items()}

    def declaration(self, name: str) -> RedisKey:
        """What is declared of a kind of keys.

        Raises:
            KeyRefusedError: nothing is.
        """
        if name not in self._declared:
            raise KeyRefusedError(f"{name} is not declared in redis_keys.yml")
        return self._declared[name]

    def key(self, name: str, tenant: str, **parts: str | int) -> str:
        """Render a key.

        Raises:
            KeyRefusedError: as the class says.
        """
        pattern = self.declaration(name).pattern
        values = {"env": self.environment, "tenant": tenant, **{part: str(value) for part, value in parts.items()}}
        wanted = set(_PLACEHOLDER.findall(pattern))
        if wanted != set(values):
            raise KeyRefusedError(f"{name}: expected the parts {', '.join(sorted(wanted))}")
        for part, value in values.items():
            if not _PART.fullmatch(value):
                raise KeyRefusedError(f"{name}: {part} has characters that no part of a key may have")
        return pattern.format(**values)

    def index(self, name: str, tenant: str) -> str:
        """The key of the index that counts a tenant's keys of a kind."""
        self.declaration(name)
        return self.key("key_index", tenant, kind=name.replace("_", "-"))

    def is_foreign(self, key: str) -> bool:
        """Whether a key found in Redis begins with the name of another environment, or of none."""
        return key.partition(":")[0] != self.environment

    def kind_of(self, key: str) -> str | None:
        """The declared kind that a key found in Redis is of; None for one that nobody declared, or of another environment."""
        return next((name for name, pattern in self._patterns.items() if pattern.fullmatch(key)), None)


def _expression(pattern: str, environment: str) -> re.Pattern[str]:
    """The keys that a pattern can make in one environment, as a regular expression."""
    parts = _PLACEHOLDER.split(pattern.replace("{env}", environment))
    return re.compile("".join(_PART.pattern if place % 2 else re.escape(text) for place, text in enumerate(parts)))
