"""How this platform connects to the workflow engine's gateway."""

from __future__ import annotations

import grpc
from pyzeebe import create_insecure_channel
from pyzeebe.errors import (
    ZeebeBackPressureError,
    ZeebeDeadlineExceeded,
    ZeebeGatewayUnavailableError,
    ZeebeInternalError,
)

# Left alone, gRPC waits up to two minutes before it tries a dead gateway again.
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)

AWAY = (
    ZeebeBackPressureError,
    ZeebeDeadlineExceeded,
    ZeebeGatewayUnavailableError,
    ZeebeInternalError,
    TimeoutError,
)
"""Errors after which the same command is right to be repeated."""


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel inside the running event loop; it connects when it is used, and again after every loss."""
    return create_insecure_channel(address, _RECONNECT)


def describe(error: Exception) -> str:
    """One line for logs and records: the status and the gateway's own words, without gRPC's debug text."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    grpc_error = getattr(error, "grpc_error", None)
    if isinstance(grpc_error, grpc.aio.AioRpcError):
        return f"{grpc_error.code().name}: {grpc_error.details()}"
    return f"{type(error).__name__}: {error}"
