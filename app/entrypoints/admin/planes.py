# ruff: noqa: PLC0415 - a driver is imported by the look that needs it, as everywhere in these commands
"""Looks at the planes of an environment that its services tell of, and holds each to what this release declares."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from app.application.drift import Difference, differences
from app.application.operations import OperationError
from app.contracts.loader import (
    load_database_grants,
    load_feature_flags,
    load_job_types,
    load_processes,
    load_redis_keys,
)
from app.entrypoints.admin.wiring import Session


@dataclass
class Look:
    """What was seen.

    Attributes:
        live: states by item, by plane.
        found: every difference from the declared.
        unseen: why a plane could not be looked at, by plane.
    """

    live: dict[str, Mapping[str, str]] = field(default_factory=dict)
    found: list[Difference] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)

    def hold(
        self,
        plane: str,
        declared: Mapping[str, str],
        live: Mapping[str, str],
        is_ours: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Keep a plane and what of it differs; see `differences`."""
        self.live[plane] = live
        self.found += differences(plane, declared, live, is_ours)

    def keep(self, plane: str, live: Mapping[str, str]) -> None:
        """Keep a plane that the inventory declares: who has the inventory judges it."""
        self.live[plane] = live

    @property
    def data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"live": self.live, "differences": [asdict(one) for one in self.found], "unseen": self.unseen}


async def look(session: Session, brokers: int, *, demo_catalog: bool) -> Look:
    """Look at every plane, those of one service after those of another; what cannot be seen is named.

    Args:
        session: whose services.
        brokers: how many the environment declares.
        demo_catalog: whether the environment publishes the demo catalog, which is then declared.
    """
    seen = Look()

    async def of_the_owner() -> None:
        await _owner(session, seen)

    async def of_the_operators() -> None:
        await _operators(session, seen, demo_catalog=demo_catalog)

    async def of_kafka() -> None:
        await asyncio.to_thread(_kafka, session, seen, brokers)

    async def of_redis() -> None:
        await _redis(session, seen)

    await asyncio.gather(
        _named(
            seen,
            of_the_owner,
            "postgresql-schema",
            "postgresql-indexes",
            "postgresql-roles",
            "postgresql-grants",
            "migrations",
        ),
        _named(seen, of_the_operators, "bpmn", "job-types", "flags", "catalog"),
        _named(seen, of_kafka, "kafka-topics", "kafka-access", "kafka-groups"),
        _named(seen, of_redis, "redis-policy", "redis-users", "redis-keys"),
    )
    return seen


async def _named(seen: Look, step: Callable[[], Awaitable[None]], *planes: str) -> None:
    """Take a step, and name its planes as unseen when it comes to no end."""
    import psycopg

    try:
        await step()
    except (OperationError, psycopg.Error, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        seen.unseen |= {plane: reason for plane in planes if plane not in seen.live}


async def _owner(session: Session, seen: Look) -> None:
    from app.adapters.postgres.grants import plan_grants
    from app.adapters.postgres.live_state import LiveDatabase, declared_schema

    async with session.owner_database() as connection:
        database = LiveDatabase(connection)
        schema = declared_schema(session.bundled("migrations"))
        seen.hold("postgresql-schema", schema["schema"], await database.items("schema"))
        seen.hold("postgresql-indexes", schema["indexes"], await database.items("indexes"))
        seen.keep("postgresql-roles", await database.items("roles"))
        plan = await plan_grants(connection, load_database_grants())
        present = {str(grant): "given" for grant in plan.present}
        undeclared = {str(grant) for grant in plan.undeclared}
        missing = {str(grant): "given" for grant in plan.missing} | dict.fromkeys(plan.awaited, "there")
        declared = {name: state for name, state in present.items() if name not in undeclared} | missing
        seen.hold("postgresql-grants", declared, present)
        applied, contents = await database.items("migrations"), session.migrator().contents()
        due = {name: sha for name, sha in contents.items() if "_expand_" in name or name in applied}
        seen.hold("migrations", due, applied)


async def _operators(session: Session, seen: Look, *, demo_catalog: bool) -> None:
    from app.adapters.postgres.feature_flags import PostgresFlagStore
    from app.adapters.postgres.live_state import LiveDatabase, declared_catalog
    from app.adapters.postgres.process_deployments import ProcessDeployments
    from app.adapters.zeebe.process_definitions import read_definitions
    from app.entrypoints.admin.demo_catalog import seeded_tenants

    async with session.database() as connection:
        deployments = ProcessDeployments(connection)
        processes = {
            item.process_id: item.content_sha256 for item in read_definitions(session.bundled("bpmn"), load_processes())
        }
        given = {one.process_id: one.content_sha256 for one in await deployments.all()}
        # A content that was given before counts, whatever was given after it.
        given |= {name: sha for name, sha in await deployments.deployed() if processes.get(name) == sha}
        seen.hold("bpmn", processes, given, lambda _: False)
        seen.hold("job-types", *_job_types(await deployments.live_workers()))
        declared, defaults = load_feature_flags(), session.settings.feature_flag_defaults
        rows = (await PostgresFlagStore(connection).overview(None))["environment"]
        values = {row["flag"]: _switch(row["enabled"]) for row in rows}
        wanted = {flag: _switch(defaults.get(flag, one.default)) for flag, one in declared.items()}
        # What an operator has set has its reason in the history of flags.
        wanted |= {
            row["flag"]: values[row["flag"]] for row in rows if row["is_operator_set"] and row["flag"] in declared
        }
        seen.hold("flags", wanted, values)
        catalogs = await LiveDatabase(connection).catalogs()
        demo: dict[str, str] = {}
        for tenant in seeded_tenants(None) if demo_catalog else ():
            demo |= declared_catalog(tenant, catalogs)
        versions = [item for item in demo if item.split()[-2] == "version"]
        seen.hold("catalog", demo, catalogs, lambda item: any(item.startswith(f"{version} ") for version in versions))


def _job_types(workers: Any) -> tuple[dict[str, str], dict[str, str]]:
    contract = load_job_types()
    served, versions = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for worker in workers:
        for job_type in worker.job_types:
            served[job_type].add(worker.worker_group)
        versions[f"variables of {worker.worker_group}"].add(", ".join(map(str, worker.variables_schema_versions)))
    declared = {name: one.group for name, one in contract.job_types.items()}
    understood = ", ".join(map(str, contract.variables_schema_versions))
    live = {item: " and ".join(sorted(each)) for item, each in {**served, **versions}.items()}
    return declared | dict.fromkeys(versions, understood), live


def _kafka(session: Session, seen: Look, brokers: int) -> None:
    from app.adapters.kafka.administration import declared_access

    topics, consumer_user = session.kafka_contract()
    with session.kafka() as kafka:
        for name, plane in kafka.planes(topics, declared_access(topics, consumer_user), brokers).items():
            seen.hold(name, plane.declared, plane.live, plane.ours.__contains__)


async def _redis(session: Session, seen: Look) -> None:
    from app.adapters.redis.keys import Keys
    from app.adapters.redis.live_state import declared_users, declared_versions, look

    settings, contract = session.settings, load_redis_keys()
    keys = Keys(contract, settings.app_env)
    live = await look(settings.redis_url, settings.redis_password.get_secret_value(), settings.tls_ca_file, keys)
    seen.keep("redis-policy", live.policy)
    # The operator's user is the server's own, for whoever keeps it.
    seen.hold(
        "redis-users",
        declared_users(contract.users, settings.app_env),
        live.users,
        lambda item: item != "user operator",
    )
    seen.hold("redis-keys", declared_versions(keys, live.keys), live.keys)


def _switch(value: bool) -> str:
    return "on" if value else "off"
