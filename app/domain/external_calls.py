"""Calls to external systems, written down before they go out: what is not known is asked for, never guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.domain.values import OrderId, TenantId

FIRST_EPOCH = 1

_FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 400, 500
_REQUEST_TIMEOUT = 408


class AttemptState(StrEnum):
    """What is known of a call."""

    PREPARED = "prepared"
    """Committed before the call; if it stays so, the process died and nothing is known."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The external system certainly did nothing."""
    UNKNOWN = "unknown"
    """It went out and no answer can be relied on."""


def idempotency_key(environment: str, tenant_id: TenantId, order_id: OrderId, step: str, epoch: int) -> str:
    """The key that every call for a step of an order carries, however often and from whichever process it is made."""
    return f"{environment}:{tenant_id}:{order_id}:{step}:{epoch}"


def tenant_of(key: str) -> TenantId:
    """The tenant that a key was made for."""
    _, tenant, _ = key.split(":", 2)
    return TenantId(tenant)


@dataclass(frozen=True, slots=True)
class ExternalCallAttempt:
    """One call for one step. All attempts of an epoch share the idempotency key."""

    attempt_id: UUID
    tenant_id: TenantId
    order_id: OrderId
    step: str
    epoch: int
    attempt_no: int
    external_system: str
    idempotency_key: str
    request_sha256: str
    state: AttemptState
    prepared_at: datetime
    finished_at: datetime | None = None
    response_status: int | None = None
    external_reference: str | None = None
    error: str | None = None

    @property
    def was_answered(self) -> bool:
        """Whether the external system itself said that it did nothing: a query may only have come too early."""
        return (
            self.state is AttemptState.FAILED
            and self.response_status is not None
            and _FIRST_CLIENT_ERROR <= self.response_status < _FIRST_SERVER_ERROR
            and self.response_status != _REQUEST_TIMEOUT
        )

    @property
    def is_open(self) -> bool:
        """Whether the external system must be asked before anything else is sent."""
        return self.state in {AttemptState.PREPARED, AttemptState.UNKNOWN}

    def finish(
        self,
        state: AttemptState,
        now: datetime,
        *,
        status: int | None = None,
        reference: str | None = None,
        error: str | None = None,
    ) -> ExternalCallAttempt:
        """Note what became of the call."""
        return replace(
            self, state=state, finished_at=now, response_status=status, external_reference=reference, error=error
        )
