"""Feature flags in memory, for unit tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.values import TenantId


@dataclass
class MemoryFeatureFlags:
    """See `app.application.ports.FeatureFlags`; a flag without a value is off."""

    values: dict[str, bool] = field(default_factory=dict)
    tenant_values: dict[tuple[TenantId, str], bool] = field(default_factory=dict)

    async def is_enabled(self, flag: str, tenant_id: TenantId | None = None) -> bool:
        value = self.values.get(flag, False)
        return value if tenant_id is None else self.tenant_values.get((tenant_id, flag), value)
