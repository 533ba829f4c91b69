"""Contract migrations: what is old is taken away when nobody speaks it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from app.adapters.kafka.administration import KafkaUnreachableError
from app.adapters.postgres.consumer_operations import ConsumerOperations
from app.adapters.postgres.live_questions import LiveQuestions
from app.adapters.postgres.live_sessions import LiveSessions
from app.adapters.postgres.process_administration import PostgresProcessStore
from app.adapters.postgres.standbys import Standbys
from app.adapters.redis.keys import Keys
from app.adapters.redis.value_versions import of_version
from app.application.contract_phase import Speech, TopicState, questions, removed, speakers
from app.application.migration_header import Removed
from app.application.process_versions import reached
from app.application.release_plan.described import Migration
from app.application.release_plan.model import Answer
from app.contracts.loader import load_redis_keys, load_release_path
from app.entrypoints.admin.outcome import Outcome, applied, failed, planned
from app.entrypoints.admin.plan_input import read_migrations
from app.entrypoints.admin.wiring import InputError, Session


def command(
    context: typer.Context,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be applied and who stands against it.")
    ] = False,
) -> Outcome:
    """Apply the bundle's contract migrations, all of them or none: not while anybody speaks what one of them takes away.

    Asked are database sessions, live workers, process instances, the outbox, topics, Redis and standbys. Exit 1 names each that
    still speaks an old form.
    """
    session: Session = context.obj
    return asyncio.run(_contract(session, is_plan=plan))


async def _contract(session: Session, *, is_plan: bool) -> Outcome:
    migrator = session.migrator()
    names = (await asyncio.to_thread(migrator.plan)).contracts
    contracts = [each for each in read_migrations(session.bundled("migrations")) or () if each.name in names]
    if not contracts:
        return Outcome()
    lines = [f"contract {each.name}: removes {', '.join(map(str, each.header.removes))}" for each in contracts]
    waits = await asyncio.to_thread(migrator.unmet, names)
    speech = await listen(session, contracts)
    generation = load_release_path().generation
    found = {each.name: speakers(each, session.release.release_id, generation, speech) for each in contracts}
    told = {
        name: [{"kind": one.kind, "who": one.who, "remedy": one.remedy} for one in each] for name, each in found.items()
    }
    if problems := [*waits, *(f"{name}: {one}" for name, each in found.items() for one in each)]:
        return failed(problems, {"contracts": list(names), "speakers": told})
    if is_plan:
        return planned(lines, {"contracts": list(names), "speakers": told})
    async with session.owner_database() as connection, session.audited(connection, "migrate contract") as detail:
        done = await asyncio.to_thread(migrator.contract, names, session.release.release_id)
        detail["migrations"] = list(done.migrations)
        return applied(lines, {"migrations": list(done.migrations)})


async def listen(session: Session, contracts: Sequence[Migration]) -> Speech:
    """Ask everybody who could speak what contract migrations take away.

    Raises:
        OperationError: somebody could not be asked; nothing is known of whoever does not answer.
        InputError: a head names a Redis value without its version.
    """
    settings = session.settings
    others = Standbys(
        settings.db_url, settings.db_password.accepted, session.application_name, settings.db_statement_timeout
    )
    async with session.database() as connection:
        live, store = LiveSessions(connection), PostgresProcessStore(connection)
        processes = tuple(await reached(store))
        topics = [each.name for each in removed(contracts, "topic")]
        positions = {topic: await ConsumerOperations(connection).positions(topic) for topic in topics}
        return Speech(
            release=await live.release(),
            sessions=await live.sessions(),
            workers=tuple(await store.live_workers()),
            reached=processes,
            answers=await LiveQuestions(connection).answers(questions(contracts, processes)),
            topics=await asyncio.to_thread(_topics, session, positions),
            keys=await _keys(session, removed(contracts, "redis-value")),
            standbys=await live.standbys(others),
        )


def _topics(session: Session, positions: Mapping[str, Mapping[tuple[str, int], int]]) -> dict[str, TopicState]:
    """What each topic that is there has, and how far groups are behind its end; PostgreSQL says where they are."""
    if not positions:
        return {}
    with session.kafka() as administration:
        there = administration.topics()
    found = {}
    for topic in set(positions) & there:
        with session.event_log(topic) as log:
            bounds = log.bounds()
        behind: dict[str, int] = {}
        for (group, partition), offset in positions[topic].items():
            if partition not in bounds:
                raise KafkaUnreachableError(f"topic {topic} has no partition {partition}, which {group} has a place in")
            behind[group] = behind.get(group, 0) + max(0, bounds[partition][1] - offset)
        found[topic] = TopicState(sum(end - beginning for beginning, end in bounds.values()), behind)
    return found


async def _keys(session: Session, forms: Sequence[Removed]) -> dict[Removed, Answer]:
    settings = session.settings
    keys = Keys(load_redis_keys(), settings.app_env)
    found = {}
    for each in forms:
        kind, _, version = each.name.partition(" ")
        if not version.isdecimal():
            raise InputError(f"-- removes: {each}: expected redis-value KIND VERSION, such as catalog_offering 1")
        password = settings.redis_password.get_secret_value()
        found[each] = await of_version(settings.redis_url, password, settings.tls_ca_file, keys, (kind, int(version)))
    return found
