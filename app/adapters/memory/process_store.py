"""Deployments, routes and references of processes in memory, for unit tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from app.application.process_versions import LiveReferences, LiveWorker, ProcessDeployment, StoredRoute
from app.application.repair import RepairReason
from app.domain.process_route import ProcessRoute


@dataclass
class MemoryProcessStore:
    """See `app.application.process_versions.ProcessStore`; `now` is its clock."""

    now: datetime
    deployed: list[ProcessDeployment] = field(default_factory=list)
    workers: list[LiveWorker] = field(default_factory=list)
    retirements: dict[str, datetime] = field(default_factory=dict)
    stored: dict[UUID, StoredRoute] = field(default_factory=dict)
    references: dict[str, LiveReferences] = field(default_factory=dict)
    keys: dict[str, dict[int, datetime]] = field(default_factory=dict)
    tenants: set[str] = field(default_factory=set)

    async def hold(self) -> None:
        """One change at a time is all there is here."""

    async def deployments(self) -> list[ProcessDeployment]:
        return list(self.deployed)

    async def live_workers(self) -> list[LiveWorker]:
        return list(self.workers)

    async def retired(self) -> Mapping[str, datetime]:
        return dict(self.retirements)

    async def routes(self, removed_since: timedelta | None = None) -> list[StoredRoute]:
        oldest = self.now - (removed_since or timedelta())
        return [each for each in self.stored.values() if each.removed_at is None or each.removed_at > oldest]

    async def live_references(self) -> Mapping[str, LiveReferences]:
        return dict(self.references)

    async def instance_keys(self, process_id: str) -> Mapping[int, datetime]:
        return self.keys.get(process_id, {})

    async def has_tenant(self, tenant_id: str) -> bool:
        return tenant_id in self.tenants

    async def add_route(self, route: ProcessRoute, reason: RepairReason) -> None:
        self.stored[route.route_id] = StoredRoute(route, reason.text, reason.operator)

    async def remove_route(self, route_id: UUID, reason: RepairReason) -> None:
        self.stored[route_id] = replace(self.stored[route_id], removed_at=self.now)

    async def retire(self, process_id: str, reason: RepairReason) -> None:
        self.retirements[process_id] = self.now
