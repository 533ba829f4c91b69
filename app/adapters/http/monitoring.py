"""Asks Prometheus and Alertmanager; an answer that does not come is said as such, so that a page shows what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

_TIMEOUT_SECONDS = 5.0


class MonitoringUnavailableError(Exception):
    """It does not answer, or not to this question; the message says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one combination of labels, each with its time in seconds since the epoch."""

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1][1]


class Monitoring:
    """Both servers.

    Args:
        prometheus_url: base URL of Prometheus.
        alertmanager_url: base URL of Alertmanager.
    """

    def __init__(self, prometheus_url: str, alertmanager_url: str) -> None:
        self._prometheus, self._alertmanager = prometheus_url, alertmanager_url
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def now(self, query: str) -> list[Series]:
        """Ask for the newest values.

        Raises:
            MonitoringUnavailableError: no answer.
        """
        data = await self._ask(f"{self._prometheus}/api/v1/query", {"query": query})
        return [
            Series(found["metric"], [(float(found["value"][0]), float(found["value"][1]))])
            for found in data["data"]["result"]
        ]

    async def over(self, query: str, start: float, end: float, step: int) -> list[Series]:
        """Ask for values over a time.

        Raises:
            MonitoringUnavailableError: no answer.
        """
        parameters = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
        data = await self._ask(f"{self._prometheus}/api/v1/query_range", parameters)
        return [
            Series(found["metric"], [(float(at), float(value)) for at, value in found["values"]])
            for found in data["data"]["result"]
        ]

    async def alerts(self) -> list[dict[str, Any]]:
        """Ask for the alerts that are raised now.

        Raises:
            MonitoringUnavailableError: no answer.
        """
        found: list[dict[str, Any]] = await self._ask(f"{self._alertmanager}/api/v2/alerts", {})
        return found

    async def _ask(self, url: str, parameters: Mapping[str, str]) -> Any:
        try:
            response = await self._client.get(url, params=dict(parameters))
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise MonitoringUnavailableError(f"{type(error).__name__}: {error}") from error
