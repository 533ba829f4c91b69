"""Whether everything the platform stands on answers, and what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any

import typer

from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.platform_health import PlatformHealth
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.redis.health import redis_state
from app.application.operations import OperationError
from app.entrypoints.admin.outcome import EXIT_FAILED, Outcome
from app.entrypoints.admin.wiring import Session


def command(context: typer.Context) -> Outcome:
    """Ask PostgreSQL, Kafka, Redis and the workflow engine for their state; exit 1 when one does not answer."""
    session: Session = context.obj
    return asyncio.run(_diagnose(session))


async def _diagnose(session: Session) -> Outcome:
    answers = await asyncio.gather(
        _asked("postgresql", _database(session)),
        _asked("kafka", asyncio.to_thread(_kafka, session)),
        _asked("redis", _redis(session)),
        _asked("zeebe", _engine(session)),
    )
    problems = [f"{name}: {answer}" for name, answer in answers if isinstance(answer, str)]
    data = {"release_id": session.release.release_id} | {
        name: {"reachable": False} if isinstance(answer, str) else {"reachable": True} | answer
        for name, answer in answers
    }
    return Outcome(problems=problems, data=data, exit_code=EXIT_FAILED if problems else 0)


async def _asked(name: str, question: Awaitable[dict[str, Any]]) -> tuple[str, dict[str, Any] | str]:
    try:
        return name, await question
    except OperationError as error:
        return name, str(error)


async def _database(session: Session) -> dict[str, Any]:
    async with session.database() as connection:
        health = PlatformHealth(connection)
        answer = asdict(await health.database())
        answer["open_fallout"] = await health.open_fallout()
        answer["workers"] = [asdict(worker) for worker in await ProcessDeployments(connection).live_workers()]
        answer["migrated"] = await has_table(connection, "migration_ledger")
    return answer


def _kafka(session: Session) -> dict[str, Any]:
    with session.kafka() as kafka:
        return asdict(kafka.state())


async def _redis(session: Session) -> dict[str, Any]:
    return asdict(
        await redis_state(
            session.settings.redis_url, session.settings.redis_password.get_secret_value(), session.settings.tls_ca_file
        )
    )


async def _engine(session: Session) -> dict[str, Any]:
    async with session.engine() as engine:
        return asdict(await engine.state())
