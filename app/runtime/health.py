"""How a dependency's state is reported: which one, whether it answers, and what is lost without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.runtime.clock import Clock


class Status(StrEnum):
    """State of one dependency, or of the unit as the worst of its dependencies."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class DependencyStatus:
    """One dependency as seen just now.

    `lost_ability` says what the unit cannot do while the dependency is down; `required` ones take the unit's readiness
    with them, the others leave it ready and degraded.
    """

    name: str
    status: Status
    required: bool
    lost_ability: str
    detail: str
    latency_ms: float | None = None

    def document(self) -> dict[str, object]:
        """Return the JSON shape of the diagnostics response; an answering dependency has lost nothing."""
        document: dict[str, object] = {"name": self.name, "status": self.status.value, "required": self.required}
        if self.latency_ms is not None:
            document["latencyMs"] = self.latency_ms
        if self.status is not Status.UP:
            document |= {"lostAbility": self.lost_ability, "detail": self.detail}
        return document


def overall(dependencies: Iterable[DependencyStatus]) -> Status:
    """Return down when a required dependency is down, degraded when any other is not up, else up."""
    worst = Status.UP
    for dependency in dependencies:
        if dependency.status is Status.UP:
            continue
        if dependency.required and dependency.status is Status.DOWN:
            return Status.DOWN
        worst = Status.DEGRADED
    return worst


def diagnostics(dependencies: Iterable[DependencyStatus]) -> dict[str, object]:
    """Return the body of a diagnostics response."""
    listed = list(dependencies)
    return {"status": overall(listed).value, "dependencies": [dependency.document() for dependency in listed]}


async def tcp_reachability(
    clock: Clock, name: str, address: str, lost_ability: str, *, required: bool = False, patience: float = 1.0
) -> DependencyStatus:
    """Say whether one of the comma-separated `host:port` addresses accepts a connection within `patience` seconds.

    Proves a listening process and the way to it, no more: no credentials are offered. Never raises for a dependency's
    failure, a malformed address included; the reason is in `detail`.
    """
    problems: list[str] = []
    for endpoint in address.split(","):
        host, _, port = endpoint.strip().rpartition(":")
        started = clock.monotonic()
        try:
            async with asyncio.timeout(patience):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except TimeoutError:
            problems.append(f"{endpoint.strip()}: no answer within {patience:g} s")
        except (OSError, ValueError) as error:
            problems.append(f"{endpoint.strip()}: {error}")
        else:
            latency_ms = round((clock.monotonic() - started) * 1000, 1)
            writer.close()
            return DependencyStatus(name, Status.UP, required, lost_ability, "reachable", latency_ms)
    return DependencyStatus(name, Status.DOWN, required, lost_ability, "; ".join(problems))
