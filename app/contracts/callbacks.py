"""What an external system sends back when work is finished, and how it proves that it is the sender.

The receiver and whoever plays a system share this module, so that both sign the same bytes. A key is made for each system
and tenant from the system's secret: what one tenant's key signs is worth nothing at another tenant's URL.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

TIMESTAMP_HEADER = "Callback-Timestamp"
"""Seconds since 1970 at which the callback was signed."""
SIGNATURE_HEADER = "Callback-Signature"
"""HMAC-SHA256 over timestamp, full stop and body, in hexadecimal digits."""

_WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps no text with a NUL character."""


class CallbackV1(Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """The body: `callback_id` is the sender's own and never used again, `id` is its name for what it did."""

    callback_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{7,99}$")]
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255, pattern=_WITHOUT_NUL)]
    order_id: UUID
    id: Annotated[str, Meta(min_length=1, max_length=200, pattern=_WITHOUT_NUL)]
    outcome: Literal["done", "failed"]
    occurred_at: Annotated[datetime, Meta(tz=True)]
    detail: Annotated[str, Meta(max_length=500, pattern=_WITHOUT_NUL)] = ""


def callback_path(system: str, tenant: str) -> str:
    """Where a tenant's callbacks of a system arrive, below the receiver's base URL."""
    return f"/v1/callbacks/{system}/{tenant}"


def tenant_key(secret: str, system: str, tenant: str) -> bytes:
    """The key that signs a system's callbacks for one tenant."""
    return hmac.new(secret.encode(), f"{system}/{tenant}".encode(), hashlib.sha256).digest()


def signature(key: bytes, timestamp: int, body: bytes) -> str:
    """The value of the signature's header."""
    return hmac.new(key, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
