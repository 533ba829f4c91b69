"""Inventory reserves what an order's items need."""

from __future__ import annotations

from datetime import timedelta

import httpx

from app.adapters.http.external_system import HttpExternalSystem


def inventory(client: httpx.AsyncClient, base_url: str, token: str, timeout: timedelta) -> HttpExternalSystem:
    """The inventory system behind `base_url`."""
    return HttpExternalSystem(client, "inventory", f"{base_url}/v1/reservations", token, timeout)
