from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import falcon.testing
import pytest
from prometheus_client import CollectorRegistry

from app.adapters.http.monitoring import MonitoringUnavailableError, Series
from app.adapters.postgres.order_history import HistoryUnavailableError
from app.adapters.sqlite.engine_store import EngineStore
from app.adapters.sqlite.intake_store import IntakeStore
from app.entrypoints.console.app import Sources, create_app
from app.entrypoints.console.dashboards import load_dashboards
from app.entrypoints.console.sessions import Sessions
from app.runtime.metrics import ConsoleMetrics

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
ORDER = UUID("0198c5f0-7f1e-7a3b-8c2d-1e2f3a4b5c6d")
PASSWORD = "passwordOfTheTest1"


class SettableClock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return self.passed


class Known:
    """What Prometheus, Alertmanager and the database know in a test; away where a test says so."""

    def __init__(self) -> None:
        self.is_away = False
        self.series: list[Series] = []
        self.raised: list[dict[str, Any]] = []
        self.history_rows: list[dict[str, Any]] = []
        self.asked: list[str] = []

    async def now(self, query: str) -> list[Series]:
        return self._answer(query)

    async def over(self, query: str, start: float, end: float, step: int) -> list[Series]:
        return self._answer(query)

    def _answer(self, query: str) -> list[Series]:
        self.asked.append(query)
        if self.is_away:
            raise MonitoringUnavailableError("ConnectError")
        return self.series if query.startswith(("up{", "cpq_unit", "sum")) else []

    async def alerts(self) -> list[dict[str, Any]]:
        if self.is_away:
            raise MonitoringUnavailableError("ConnectError")
        return self.raised

    async def order(self, order_id: UUID) -> tuple[dict[str, Any], Sequence[dict[str, Any]]] | None:
        if order_id != ORDER:
            return None
        about: dict[str, Any] = {
            "order_id": ORDER, "tenant_id": "acme-telecom", "quote_id": ORDER, "state": "completed", "customer_id": "c-1",
            "currency": "EUR", "total_one_time": 1, "total_recurring": 2, "quote_state": "accepted", "process_id": "order-fulfillment-v1",
            "process_instance_key": 7, "workflow_state": "completed",
        }  # fmt: skip
        return about, self.history_rows

    async def recent(self) -> Sequence[dict[str, Any]]:
        if self.is_away:
            raise HistoryUnavailableError("OperationalError")
        return []

    async def fallout(self) -> Sequence[dict[str, Any]]:
        return []

    async def runs(self, command: str, limit: int) -> Sequence[dict[str, Any]]:
        return []


class Browser:
    """One address that looks at the console, with its cookies."""

    def __init__(self, known: Known, folder: Path) -> None:
        self.clock = SettableClock()
        self.searched: list[str] = []
        self.registry = CollectorRegistry()
        self.intake = IntakeStore(folder / "intake.sqlite3")
        self.engine = EngineStore(folder / "engine.sqlite3", lambda *_: None)
        sources = Sources(
            environment="test",
            dashboards=load_dashboards(),
            monitoring=known,  # type: ignore[arg-type]
            history=known,  # type: ignore[arg-type]
            engine=self.engine,
            read_up_to=lambda: NOON,
            intake=self.intake,
            journal=self._search,
            clock=self.clock,
            secure=True,
        )
        app = create_app(sources, Sessions(PASSWORD, self.clock), ConsoleMetrics(self.registry))
        self.client = falcon.testing.TestClient(app)
        self.cookies: dict[str, str] = {}

    async def _search(self, text: str, since: str) -> Sequence[Mapping[str, Any]]:
        self.searched.append(text)
        return [{"__REALTIME_TIMESTAMP": "1795867200000000", "_HOSTNAME": "api-1", "MESSAGE": f"<b>{text}</b>"}]

    def get(self, path: str) -> falcon.testing.Result:
        return self.client.simulate_get(path, cookies=self.cookies)

    def log_in(self, password: str = PASSWORD, operator: str = "ada") -> falcon.testing.Result:
        answer = self.client.simulate_post(
            "/login",
            body=f"operator={operator}&password={password}",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        for name, cookie in answer.cookies.items():
            self.cookies[name] = cookie.value
        return answer


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def browser(known: Known, tmp_path: Path) -> Browser:
    return Browser(known, tmp_path)
