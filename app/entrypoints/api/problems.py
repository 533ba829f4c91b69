"""Every refusal and every failure as application/problem+json (RFC 9457): a stable code, never a stack.

`code` and `type` say the same thing; clients program against either. A refusal never tells whether another tenant has
the thing that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import falcon
import falcon.asgi
import msgspec

from app.application.ports import ConcurrentChange, StoreUnavailable
from app.application.refusals import IdempotencyKeyReused, NotFound, RequestInFlight, VersionMismatch
from app.domain import errors
from app.runtime.logging import get_logger

CONTENT_TYPE = "application/problem+json"

_RETRY_AFTER_S = "1"
_SERVER_ERROR = 500
_log = get_logger(__name__)


class Problem(Exception):  # noqa: N818 (raised to answer, not to fail)
    """An answer that is a refusal.

    Attributes:
        status: HTTP status code.
        code: stable, kebab-case.
        detail: one sentence for a person.
        faults: where in the request the problem is, as JSON pointers with a sentence each.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        faults: tuple[Fault, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.faults = faults
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Fault:
    """One place in the request body and what is wrong there."""

    pointer: str
    detail: str


_STATUS: Mapping[type[errors.DomainError], int] = {
    errors.MoneyNotRepresentable: 422,
    errors.CurrencyMismatch: 422,
    errors.NoActiveCatalog: 409,
    errors.OfferingNotFound: 422,
    errors.OfferingNotSellable: 422,
    errors.OfferingNotPriced: 422,
    errors.QuoteExpired: 409,
    errors.QuoteStateConflict: 409,
    errors.QuoteAlreadyConverted: 409,
    errors.OrderStateConflict: 409,
    NotFound: 404,
    VersionMismatch: 412,
    IdempotencyKeyReused: 422,
    RequestInFlight: 409,
}

_OF_THE_FRAMEWORK: Mapping[int, tuple[str, str]] = {
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not have that method; Allow says which it has."),
}


def register(app: falcon.asgi.App[Any, Any]) -> None:
    """Make every way of failing end in a problem document."""
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(Problem, _on_problem)
    app.add_error_handler(errors.DomainError, _on_refusal)
    app.add_error_handler(StoreUnavailable, _on_store_unavailable)
    app.add_error_handler(ConcurrentChange, _on_concurrent_change)


def write(req: falcon.asgi.Request, resp: falcon.asgi.Response, problem: Problem) -> None:
    """Turn the response into the problem's document."""
    document: dict[str, Any] = {
        "type": f"urn:cpq-oms:problem:{problem.code}",
        "title": problem.code.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "requestId": getattr(req.context, "request_id", None),
    }
    if problem.faults:
        document["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in problem.faults]
    resp.status = problem.status
    resp.content_type = CONTENT_TYPE
    resp.data = msgspec.json.encode(document)
    for name, value in problem.headers.items():
        resp.set_header(name, value)


async def _on_problem(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Problem, _params: Mapping[str, Any]
) -> None:
    write(req, resp, error)


async def _on_refusal(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: errors.DomainError, _params: Mapping[str, Any]
) -> None:
    headers = {"Retry-After": _RETRY_AFTER_S} if isinstance(error, RequestInFlight) else None
    write(req, resp, Problem(_STATUS[type(error)], error.code, error.detail, headers=headers))


async def _on_concurrent_change(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, _error: ConcurrentChange, _params: Mapping[str, Any]
) -> None:
    detail = "Another request changed the same thing at the same moment; nothing was done."
    write(req, resp, Problem(409, "concurrent-change", detail, headers={"Retry-After": _RETRY_AFTER_S}))


async def _on_store_unavailable(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: StoreUnavailable, _params: Mapping[str, Any]
) -> None:
    _log.warning("database unavailable", error=str(error))
    detail = "The request could not be completed now. Repeating it with the same Idempotency-Key is safe."
    write(req, resp, Problem(503, "temporarily-unavailable", detail, headers={"Retry-After": _RETRY_AFTER_S}))


async def _on_http_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError, _params: Mapping[str, Any]
) -> None:
    code, detail = _OF_THE_FRAMEWORK.get(error.status_code, ("refused", "The request cannot be answered."))
    headers = {name: value for name, value in dict(error.headers or {}).items() if name.lower() != "content-type"}
    write(req, resp, Problem(error.status_code, code, error.description or detail, headers=headers))


async def _on_defect(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: Mapping[str, Any]
) -> None:
    if isinstance(error, falcon.HTTPStatus):
        raise error
    _log.error("request failed", exc_info=error)
    write(req, resp, Problem(_SERVER_ERROR, "internal-error", "The request failed for a reason of ours."))
