"""Cohorts: which business flows meet a new release first. A flow, from its quote to its last step, is in one wholly or not at all.

What decides is known when the flow begins and never changes: its tenant, what is quoted, or the process version that was chosen
for its order and kept with it. Requests are never drawn by lot: a flow would meet both releases.
"""

from __future__ import annotations

import zlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from app.domain.values import TenantId

BUCKETS = 100
"""Tenants are spread over so many buckets by a hash of their id, which the edge computes as well."""


class Dimension(StrEnum):
    """By what a cohort is chosen."""

    TENANT = "tenant"
    PERCENT = "percent"
    PRODUCT_LINE = "product-line"
    PROCESS = "process"
    CHANNEL = "channel"
    PARTNER = "partner"


_NOT_KNOWN = frozenset({Dimension.CHANNEL, Dimension.PARTNER})
"""Neither quotes nor orders say through whom or by which way they came."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What is known of a business flow.

    Attributes:
        tenant_id: whose it is.
        product_lines: the lines of what is quoted.
        process_id: the process version of its order; None before there is one.
    """

    tenant_id: TenantId
    product_lines: AbstractSet[str] = frozenset()
    process_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cohort:
    """The flows of the canary by one dimension; all others are the control.

    Attributes:
        dimension: by what they are chosen.
        values: tenants, product lines or process versions; for a percentage one whole number from 1 to 99.

    Raises:
        ValueError: flows do not know the dimension, or the values are none of it.
    """

    dimension: Dimension
    values: frozenset[str]

    def __post_init__(self) -> None:
        if self.dimension in _NOT_KNOWN:
            raise ValueError(
                f"A cohort by {self.dimension} cannot be told: neither quotes nor orders know their {self.dimension}."
            )
        if not self.values or not all(self.values):
            raise ValueError(f"A cohort by {self.dimension} names at least one.")
        if self.dimension is Dimension.PERCENT:
            [*given] = self.values
            if len(given) != 1 or not given[0].isdecimal() or not 1 <= int(given[0]) < BUCKETS:
                raise ValueError("A cohort by percent is one whole number from 1 to 99.")

    @classmethod
    def parse(cls, text: str) -> Cohort:
        """Read `dimension:value,value`, such as `tenant:acme,globex`, `percent:10` or `process:order-fulfillment-v2`.

        Raises:
            ValueError: it is none.
        """
        dimension, colon, values = text.partition(":")
        if not colon or dimension not in [*Dimension]:
            raise ValueError(f"{text!r} is no cohort: expected one of {', '.join(Dimension)}, a colon, and values.")
        return cls(Dimension(dimension), frozenset(value.strip() for value in values.split(",")))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.dimension}:{','.join(sorted(self.values))}"

    def holds(self, flow: Flow) -> bool:
        """Whether the flow is in the canary; what it does not know (yet) keeps it out."""
        if self.dimension is Dimension.TENANT:
            return flow.tenant_id in self.values
        if self.dimension is Dimension.PERCENT:
            [percent] = self.values
            return bucket(flow.tenant_id) < int(percent)
        if self.dimension is Dimension.PRODUCT_LINE:
            return not self.values.isdisjoint(flow.product_lines)
        return flow.process_id in self.values


def bucket(tenant_id: TenantId) -> int:
    """The tenant's bucket, 0 to 99: the same everywhere and for good, so that a larger percentage only adds tenants."""
    return zlib.crc32(tenant_id.encode()) % BUCKETS
