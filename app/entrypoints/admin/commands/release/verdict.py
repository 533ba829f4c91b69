"""Whether there is a way back to a former release now, as live data says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict

import typer

from app.adapters.postgres.backfills import progress
from app.adapters.postgres.live_questions import LiveQuestions
from app.adapters.postgres.live_state import LiveDatabase
from app.adapters.postgres.operator_session import has_table
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_administration import PostgresProcessStore
from app.application.process_versions import reached
from app.application.release_plan import runbook
from app.application.release_plan.described import Applied, Live
from app.application.release_plan.model import Answer, Question, Verdict, Way
from app.application.release_plan.way_back import WayBack, judged, roll_forward, way_back
from app.contracts.compatibility.events import is_earlier
from app.entrypoints.admin.outcome import EXIT_FAILED, Outcome
from app.entrypoints.admin.plan_input import Rollback, read_migrations, read_rollback
from app.entrypoints.admin.plan_text import verdict_text
from app.entrypoints.admin.wiring import InputError, Session


def command(context: typer.Context) -> Outcome:
    """Judge whether a former release can run again: each reason with what live data says, and the way forward where not.

    Standard input is that of `release plan`, with {"former": {"release_id", "units", "files": {part: {file: text}},
    "migrations": [names]}}, and "attested", the reason and the name of who answers for what no data can say. Reads only.
    Exit 0 there is a way back, 1 there is none, or nobody answered for what cannot be known.
    """
    session: Session = context.obj
    try:
        asked = read_rollback(session.input(), session.operator)
        _hold_to_order(asked)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"a verdict cannot be given: {error}") from error
    return asyncio.run(_verdict(session, asked))


async def _verdict(session: Session, asked: Rollback) -> Outcome:
    own = read_migrations(session.bundled("migrations")) or ()
    async with session.database() as connection:
        store = PostgresProcessStore(connection)
        applied = await LiveDatabase(connection).applied_migrations()
        live = Live(
            reached=tuple(await reached(store)) if await store.is_there() else (),
            migrations={name: Applied(**about) for name, about in applied.items()},
            begun=await _begun(connection),
        )
        found = way_back(asked.former, asked.around.installed, own, live, asked.around)
        answers = await LiveQuestions(connection).answers(found.questions)
    return outcome(asked, found, answers)


async def _begun(connection: Connection) -> dict[str, str] | None:
    """How far backfills are that somebody began; None where the database does not keep that yet."""
    if not await has_table(connection, "migration_backfill"):
        return None
    return {
        each.migration: f"begun by {each.operator} at {each.started_at:%Y-%m-%d %H:%M}, {each.rows_changed} rows so far"
        for each in await progress(connection)
    }


def outcome(asked: Rollback, found: WayBack, answers: Mapping[Question, Answer | None]) -> Outcome:
    """What is said of the way back, from what was found and what data answered."""
    verdict = judged(found.verdict, answers, asked.attested)
    former = asked.former.release.release_id
    # The newest is what a release that mends has to be later than.
    running = max(release.release_id for release in asked.around.installed)
    forward = roll_forward(verdict, running)
    template = dict(runbook.template(running, (former,), found.changes, verdict, asked.around))
    if verdict.way is not Way.POSSIBLE:
        template |= {"rollback steps": "none: see the grounds", "roll-forward steps": "; ".join(forward)}
    return Outcome(
        problems=_problems(verdict, former),
        data={
            "former": former,
            "running": running,
            "way": verdict.way,
            "grounds": [asdict(ground) for ground in verdict.grounds],
            "unserved": found.unserved,
            "attested": asked.attested,
            "template": template,
            "roll_forward": forward,
        },
        report=verdict_text(former, running, verdict, template),
        exit_code=0 if verdict.way is Way.POSSIBLE else EXIT_FAILED,
    )


def _problems(verdict: Verdict, former: str) -> list[str]:
    found = [f"{ground.because} ({ground.answer})" for ground in verdict.grounds if ground.way is not Way.POSSIBLE]
    return [f"there is no way back to {former}", *found] if found else []


def _hold_to_order(asked: Rollback) -> None:
    former, installed = asked.former.release.release_id, [release.release_id for release in asked.around.installed]
    if not any(is_earlier(former, release_id) for release_id in installed):
        raise ValueError(f"{former} was not made before {', '.join(installed)}, which is installed: use release.yml")
