"""Decides which process version an order gets, by the routes that operators set; the choice is kept with the order.

Read in the order's own transaction: an order that commits after a route was changed has the new choice or says so. The
routes are asked for the tenant, whose row-level security hides those of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.application.ports import FeatureFlags, UnitOfWork
from app.contracts.loader import Processes
from app.domain.order import Order
from app.domain.process_route import BusinessCase, choose
from app.domain.values import TenantId

ORDER_FULFILLMENT = "order-fulfillment"


@dataclass(frozen=True, slots=True)
class FulfillmentProcess:
    """The process that a new order asks for: its id, its job types, the version of its variables."""

    process_id: str
    steps: tuple[str, ...]
    variables_schema_version: int


@dataclass(frozen=True, slots=True)
class ProcessChoice:
    """A process, the route that led to it (None for the declared default), and why in words."""

    process: FulfillmentProcess
    route_id: UUID | None
    reason: str


class ProcessRouting:
    """Chooses among the processes that this release knows.

    Args:
        processes: by process id.
        default: the process of an order that no route takes.
        flags: release flags.
        route_flags: those that a route may name.
    """

    def __init__(
        self,
        processes: Mapping[str, FulfillmentProcess],
        default: str,
        flags: FeatureFlags,
        route_flags: Sequence[str],
    ) -> None:
        self._processes = processes
        self._default = processes[default]
        self._flags = flags
        self._route_flags = route_flags

    async def enabled_flags(self, tenant_id: TenantId) -> frozenset[str]:
        """The release flags that are on for a tenant.

        Ask before the transaction: a flag takes a connection of its own, and a transaction that waits for a second
        connection can wait for ever.

        Raises:
            StoreUnavailable: the database cannot be asked now.
        """
        return frozenset([flag for flag in self._route_flags if await self._flags.is_enabled(flag, tenant_id)])

    async def choose(
        self, uow: UnitOfWork, order: Order, enabled_flags: frozenset[str], now: datetime
    ) -> ProcessChoice:
        """The process of an order.

        A route to a process that only a later release knows is passed over: after a rollback, orders go the way that
        this release can go.
        """
        case = BusinessCase(
            business_process=ORDER_FULFILLMENT,
            tenant_id=order.tenant_id,
            at=now,
            enabled_flags=enabled_flags,
            order_type=order.order_type,
            catalog_version=order.catalog_version,
        )
        routes = await uow.process_routes.current(ORDER_FULFILLMENT)
        known = [route for route in routes if route.process_id in self._processes]
        route = choose(known, case)
        if route is None:
            return ProcessChoice(self._default, None, "no route takes it: the declared default")
        reason = f"priority {route.priority}: {route.description}"
        return ProcessChoice(self._processes[route.process_id], route.route_id, reason)


def order_routing(declared: Processes, flags: FeatureFlags) -> ProcessRouting:
    """The routing of orders that processes.yml declares."""
    default = declared.routing[ORDER_FULFILLMENT].default
    if default is None:
        raise ValueError(f"processes.yml: routing.{ORDER_FULFILLMENT} has no default")
    processes = {
        process_id: FulfillmentProcess(process_id, process.job_types, process.variables_schema_version)
        for process_id, process in declared.processes.items()
    }
    return ProcessRouting(processes, default, flags, declared.route_flags)
