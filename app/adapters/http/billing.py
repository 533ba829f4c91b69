"""Billing charges what an order costs."""

from __future__ import annotations

from datetime import timedelta

import httpx

from app.adapters.http.external_system import HttpExternalSystem


def billing(client: httpx.AsyncClient, base_url: str, token: str, timeout: timedelta) -> HttpExternalSystem:
    """The billing system behind `base_url`."""
    return HttpExternalSystem(client, "billing", f"{base_url}/v1/subscriptions", token, timeout)
