"""How this platform connects to the workflow engine's gateways."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc
from pyzeebe.channel.channel_options import get_channel_options
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

# Calls go to all gateways that answer. A host that vanished closes no connection: only pings tell.
_SEVERAL = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
)

# What every gateway's certificate calls it, besides its host: one channel has one name for all of its addresses.
_GATEWAY_NAME = "zeebe"

AWAY = (
    ZeebeBackPressureError,
    ZeebeDeadlineExceeded,
    ZeebeGatewayUnavailableError,
    ZeebeInternalError,
    TimeoutError,
)
"""Errors after which the same command is right to be repeated."""


@dataclass(frozen=True, slots=True)
class GatewayIdentity:
    """Whom we trust to be a gateway, and who we are, all PEM."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def gateway_identity(ca_file: str, certificate: str, key: str) -> GatewayIdentity | None:
    """Return the identity of settings, or None where the gateways speak no TLS.

    Raises:
        OSError: the file of trusted certificates cannot be read.
        ValueError: there is no certificate to show.
    """
    if not ca_file:
        return None
    if not certificate or not key:
        raise ValueError("TLS_CA_FILE is set, and the credentials camunda-certificate and camunda-key are not there")
    return GatewayIdentity(Path(ca_file).read_bytes(), certificate.encode(), key.encode())


def open_channel(addresses: str, identity: GatewayIdentity | None = None) -> grpc.aio.Channel:
    """Open a channel inside the running event loop; it connects when it is used, and again after every loss.

    Args:
        addresses: `host:port` of a gateway, or of several, separated by commas: then IPv4 addresses.
        identity: for gateways that speak TLS and want to know who calls.
    """
    several = "," in addresses
    target = f"ipv4:{addresses}" if several else addresses
    options = (*_RECONNECT, *(_SEVERAL if several else ()))
    if identity is None:
        return grpc.aio.insecure_channel(target, get_channel_options(options))
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
    named = (*options, ("grpc.ssl_target_name_override", _GATEWAY_NAME))
    return grpc.aio.secure_channel(target, credentials, get_channel_options(named))


def describe(error: Exception) -> str:
    """One line for logs and records: the status and the gateway's own words, without gRPC's debug text."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    grpc_error = getattr(error, "grpc_error", None)
    if isinstance(grpc_error, grpc.aio.AioRpcError):
        return f"{grpc_error.code().name}: {grpc_error.details()}"
    return f"{type(error).__name__}: {error}"
