"""Routes: which version of a business process a business case gets, by what is known of the case.

Deploying a version changes nothing by itself; a route does, for the cases that it describes. A condition that a route
does not set holds for every case, and one that the case knows nothing about holds for none.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.domain.order import OrderType
from app.domain.values import TenantId


@dataclass(frozen=True, slots=True)
class BusinessCase:
    """What routes are chosen by. Orders have a type and a catalog version; quotes have product lines.

    Attributes:
        business_process: such as `order-fulfillment`.
        tenant_id: whose case it is.
        at: when it is decided.
        enabled_flags: release flags that are on for the tenant.
        order_type: what the order does to the customer's products, or None when the case is no order.
        catalog_version: the version it was priced from, or None.
        product_lines: the lines of what is quoted.
    """

    business_process: str
    tenant_id: TenantId
    at: datetime
    enabled_flags: AbstractSet[str] = frozenset()
    order_type: OrderType | None = None
    catalog_version: int | None = None
    product_lines: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ProcessRoute:
    """A process version for the cases that meet its conditions; None is no condition. Catalog versions are inclusive."""

    route_id: UUID
    business_process: str
    process_id: str
    priority: int
    valid_from: datetime
    valid_to: datetime | None = None
    tenant_id: TenantId | None = None
    order_type: OrderType | None = None
    product_line: str | None = None
    catalog_from: int | None = None
    catalog_to: int | None = None
    flag: str | None = None

    @property
    def conditions(self) -> dict[str, str]:
        """What the route asks for, by the names that operators use; empty for one that takes every case."""
        catalog = None
        if self.catalog_from is not None or self.catalog_to is not None:
            catalog = f"{self.catalog_from or 1}-{'' if self.catalog_to is None else self.catalog_to}"
        asked = {
            "tenant": self.tenant_id,
            "order-type": self.order_type,
            "product-line": self.product_line,
            "catalog-version": catalog,
            "flag": self.flag,
        }
        return {name: str(value) for name, value in asked.items() if value is not None}

    @property
    def description(self) -> str:
        """The conditions as one line for people."""
        return ", ".join(f"{name} {value}" for name, value in self.conditions.items()) or "every case"

    def takes(self, case: BusinessCase) -> bool:
        """Whether the case meets every condition, at the time it is decided."""
        return (
            self.business_process == case.business_process
            and self.valid_from <= case.at
            and (self.valid_to is None or case.at < self.valid_to)
            and self.tenant_id in {None, case.tenant_id}
            and self.order_type in {None, case.order_type}
            and (self.product_line is None or self.product_line in case.product_lines)
            and self._takes_catalog(case.catalog_version)
            and (self.flag is None or self.flag in case.enabled_flags)
        )

    def _takes_catalog(self, catalog_version: int | None) -> bool:
        if self.catalog_from is None and self.catalog_to is None:
            return True
        return (
            catalog_version is not None
            and (self.catalog_from is None or self.catalog_from <= catalog_version)
            and (self.catalog_to is None or catalog_version <= self.catalog_to)
        )


def choose(routes: Iterable[ProcessRoute], case: BusinessCase) -> ProcessRoute | None:
    """The route of a case: of those that take it, the highest priority, then a tenant's own, then the one that asks for most.

    What is left equal is decided by the newer route, so that every process decides alike.
    """
    return max(
        (route for route in routes if route.takes(case)),
        key=lambda route: (
            route.priority,
            route.tenant_id is not None,
            len(route.conditions),
            route.valid_from,
            route.route_id,
        ),
        default=None,
    )
