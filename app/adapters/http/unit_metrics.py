"""Reads the /metrics pages of running instances: what they say of themselves, never an estimate of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.application.release_checks import Figures, Sample, Target

_TIMEOUT_SECONDS = 3.0
_KEPT = ("cpq_", "process_start_time_seconds")


async def look(targets: Iterable[Target]) -> Figures:
    """Ask every installed target at once; one that does not answer in time is named in the result, with the reason."""
    asked = [target for target in targets if target.installed]
    absent = [target.name for target in targets if not target.installed]
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        answers = await asyncio.gather(*(_ask(client, target) for target in asked))
    samples: dict[str, list[Sample]] = {}
    silent: dict[str, str] = {}
    for target, answer in zip(asked, answers, strict=True):
        if isinstance(answer, str):
            silent[target.name] = answer
        else:
            samples[target.name] = answer
    return Figures(samples, silent, absent)


async def _ask(client: httpx.AsyncClient, target: Target) -> list[Sample] | str:
    try:
        response = await client.get(target.url)
        response.raise_for_status()
        return [
            Sample(sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
            if sample.name.startswith(_KEPT)
        ]
    except httpx.HTTPError as error:
        return f"{target.url}: {type(error).__name__} {error}".strip()
    except ValueError as error:
        return f"{target.url}: not a metrics page: {error}"
