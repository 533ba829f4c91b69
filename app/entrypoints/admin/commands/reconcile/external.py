"""The regular comparison of recorded calls with what external systems say they did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from app.adapters.http.effect_list import HttpEffectList, SystemNotComparedError
from app.adapters.http.external_system import new_client
from app.adapters.postgres.external_reconciliation import PostgresCallBook
from app.adapters.postgres.operator_session import has_table
from app.application.external_reconciliation import ExternalFinding, compare
from app.contracts.loader import ExternalSystemPolicy, load_external_systems
from app.entrypoints.admin.outcome import EXIT_DRIFT, EXIT_FAILED, Outcome, failed
from app.entrypoints.admin.wiring import Session
from app.runtime.clock import SystemClock
from app.runtime.logging import get_logger


def command(
    context: typer.Context,
    system: Annotated[str | None, typer.Argument(help="Only this external system.")] = None,
) -> Outcome:
    """List what was done outside without an attempt here, or twice; what succeeded only here; and attempts left open.

    Exits with 3 where something disagrees, and with 1 where a system could not be compared. Repairs nothing.
    """
    session: Session = context.obj
    systems = load_external_systems()
    if system is not None and system not in systems:
        return failed([f"there is no external system {system}; there are {', '.join(systems)}"])
    return asyncio.run(_compare(session, {system: systems[system]} if system else systems))


async def _compare(session: Session, systems: Mapping[str, ExternalSystemPolicy]) -> Outcome:
    settings, now = session.settings, SystemClock().now()
    findings: list[ExternalFinding] = []
    problems: list[str] = []
    async with session.database() as connection, new_client() as client:
        if not await has_table(connection, "external_call_attempt"):
            return Outcome(data={"findings": [], "counts": {}})
        async with session.audited(connection, "reconcile external") as detail:
            for name, policy in systems.items():
                effects = HttpEffectList(
                    client,
                    name,
                    policy,
                    base_url=settings.url_of(name),
                    token=settings.token_of(name),
                    kind=settings.external_environment,
                    environment=settings.app_env,
                )
                try:
                    findings += await compare(name, policy.reconciliation, PostgresCallBook(connection), effects, now)
                except SystemNotComparedError as error:
                    problems += error.problems
            counts = dict(sorted(Counter(finding.kind for finding in findings).items()))
            detail["counts"], detail["not_compared"] = counts, problems
    # One line for the journal, by which alerts can be raised; the findings themselves are the output.
    get_logger(__name__).info(
        "reconciled with external systems", findings=len(findings), not_compared=len(problems),
        **{kind.replace("-", "_"): count for kind, count in counts.items()},
    )  # fmt: skip
    code = EXIT_FAILED if problems else EXIT_DRIFT if findings else 0
    return Outcome(
        problems=problems, data={"findings": [asdict(each) for each in findings], "counts": counts}, exit_code=code
    )
