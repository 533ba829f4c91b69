"""Redis keys, rendered from app/contracts/redis_keys.yml: no key is written down anywhere else."""

from __future__ import annotations

from app.contracts.loader import RedisKeys


class Keys:
    """Renders the declared key patterns of one environment."""

    def __init__(self, declared: RedisKeys, environment: str) -> None:
        self._offering = declared.keys["catalog_offering"]
        self._environment = environment

    @property
    def offering_ttl_ms(self) -> int:
        """How long an offering stays, in milliseconds."""
        return self._offering.ttl_ms

    def offering(self, tenant: str, catalog_version: int, offering_id: str) -> str:
        """The key of an offering as one published version describes it."""
        return self._offering.pattern.format(
            env=self._environment, tenant=tenant, catalog_version=catalog_version, offering_id=offering_id
        )
