"""Provisioning activates the services an order's items stand for."""

from __future__ import annotations

from datetime import timedelta

import httpx

from app.adapters.http.external_system import HttpExternalSystem


def provisioning(client: httpx.AsyncClient, base_url: str, token: str, timeout: timedelta) -> HttpExternalSystem:
    """The provisioning system behind `base_url`."""
    return HttpExternalSystem(client, "provisioning", f"{base_url}/v1/activations", token, timeout)
