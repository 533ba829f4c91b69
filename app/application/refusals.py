"""Refusals that come from the use cases rather than the business rules; stable codes as in `app.domain.errors`."""

from __future__ import annotations

from app.domain.errors import DomainError


class NotFound(DomainError):  # noqa: N818 (an answer, not a defect)
    """No such thing in this tenant: one that belongs to another tenant gets the very same answer."""

    code = "not-found"


class VersionMismatch(DomainError):  # noqa: N818 (an answer, not a defect)
    """The thing changed since the caller read it."""

    code = "version-mismatch"


class IdempotencyKeyReused(DomainError):  # noqa: N818 (an answer, not a defect)
    """The key was used before for another request."""

    code = "idempotency-key-reused"


class RequestInFlight(DomainError):  # noqa: N818 (an answer, not a defect)
    """The first request with this key is still being worked on; asking again shortly gives its answer."""

    code = "request-in-flight"
