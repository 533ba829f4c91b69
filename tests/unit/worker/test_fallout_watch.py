"""The gauge of open fallout cases follows the database, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from app.application.ports import StoreUnavailable
from app.entrypoints.worker.fallout_watch import watch_fallout
from app.runtime.metrics import WorkerMetrics, new_registry


async def test_cases_are_shown_by_step_and_a_step_without_one_as_0() -> None:
    registry = new_registry()
    answers: list[Mapping[str, int] | None] = [{"activate-billing": 2}, None, {}]
    shown: list[tuple[float | None, float | None]] = []

    async def count() -> Mapping[str, int]:
        shown.append(
            tuple(registry.get_sample_value("cpq_fallout_open", {"step": step}) for step in ("activate-billing", "x"))  # type: ignore[arg-type]
        )
        if not answers:
            raise asyncio.CancelledError
        answer = answers.pop(0)
        if answer is None:
            raise StoreUnavailable("gone")
        return answer

    with suppress(asyncio.CancelledError):
        await watch_fallout(count, WorkerMetrics(registry), ["activate-billing", "x"], interval=0)

    assert shown == [(None, None), (2, 0), (2, 0), (0, 0)]
