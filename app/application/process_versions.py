"""What operators do about process versions: route to them, see them drain, retire them; and what a release must still serve.

A version is reached from its deployment until it is retired, which is refused while a route points to it, an order's
instance of it is pending or alive, or the engine's own records show one. What is reached keeps its workers: its job types
and its version of variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from app.application.operations import OperationError
from app.application.repair import RepairReason
from app.contracts.loader import Processes, business_process
from app.domain.process_route import ProcessRoute

ROUTE_GRACE = timedelta(minutes=1)
"""How long an order's transaction may still be under way that read a route before it was removed."""

_RELEASE_ID = re.compile(r"cpq-oms-(?P<date>[0-9]{4}\.[0-9]{2}\.[0-9]{2})-(?P<number>[0-9]+)(-[0-9a-f]+)?")
_NAMED = 5


class ProcessRefusedError(OperationError):
    """A change of routes or versions would break a rule; nothing was changed. Each problem names what stands in the way."""


@dataclass(frozen=True)
class ProcessDeployment:
    """One content of a process version, as the engine was given it. `deployed_at` is None until it is recorded."""

    process_id: str
    content_sha256: str
    engine_version: int
    engine_key: int
    job_types: list[str]
    variables_schema_version: int
    compatible_worker_release: str
    git_commit: str
    release_id: str
    deployed_at: datetime | None = None


@dataclass(frozen=True)
class LiveWorker:
    """A worker process that sent its heartbeat lately."""

    instance_id: str
    worker_group: str
    job_types: list[str]
    variables_schema_versions: list[int]
    release_id: str


@dataclass(frozen=True)
class StoredRoute:
    """A route and who set it why; `removed_at` is None for one that counts."""

    route: ProcessRoute
    reason: str
    created_by: str
    removed_at: datetime | None = None


@dataclass(frozen=True)
class LiveReferences:
    """Orders whose process is pending or alive: how many, since when, and the oldest of them."""

    pending: int
    started: int
    oldest: datetime
    order_ids: list[UUID]

    @property
    def count(self) -> int:
        """All of them."""
        return self.pending + self.started


@dataclass(frozen=True)
class EngineProcess:
    """One content of a process as the engine's own records have it."""

    process_id: str
    version: int
    key: int
    resource: str
    content_sha256: str
    deployed_at: datetime


@dataclass(frozen=True)
class EngineInstance:
    """A process instance that began and did not end, by the engine's own records."""

    key: int
    process_id: str
    version: int
    began_at: datetime


@dataclass
class EngineView:
    """What the engine exported about processes and their instances; `since` is the oldest record there still is."""

    since: datetime | None = None
    processes: list[EngineProcess] = field(default_factory=list)
    instances: dict[int, EngineInstance] = field(default_factory=dict)


@dataclass(frozen=True)
class ReachedProcess:
    """A process version that orders can still reach, and what it takes to serve it."""

    process_id: str
    job_types: list[str]
    variables_schema_versions: list[int]
    routes: list[str]
    live: int

    @property
    def because(self) -> str:
        """Why it is reached, in words."""
        whys = [f"route {route_id}" for route_id in self.routes[:_NAMED]]
        if self.live:
            whys.append(f"{self.live} live or pending instances")
        return ", ".join(whys) or "deployed and not retired"


class ProcessStore(Protocol):
    """Deployments, routes, references and workers as one transaction of an operator sees them."""

    async def hold(self) -> None:
        """Keep other changes of routes and versions waiting until the transaction ends."""
        ...

    async def deployments(self) -> list[ProcessDeployment]: ...

    async def live_workers(self) -> list[LiveWorker]: ...

    async def retired(self) -> Mapping[str, datetime]:
        """Retired process versions and since when."""
        ...

    async def routes(self, removed_since: timedelta | None = None) -> list[StoredRoute]:
        """The routes that count, and those removed within `removed_since`."""
        ...

    async def live_references(self) -> Mapping[str, LiveReferences]:
        """Orders with a pending or living process, by process version."""
        ...

    async def instance_keys(self, process_id: str) -> Mapping[int, datetime]:
        """Engine keys of a version's living instances that have shown up here, and when they were asked for."""
        ...

    async def has_tenant(self, tenant_id: str) -> bool: ...

    async def add_route(self, route: ProcessRoute, reason: RepairReason) -> None: ...

    async def remove_route(self, route_id: UUID, reason: RepairReason) -> None: ...

    async def retire(self, process_id: str, reason: RepairReason) -> None: ...


def is_older(release_id: str, than: str) -> bool:
    """Tell whether a release comes before another; an id that is none, a checkout's for instance, is not compared."""
    left, right = (_RELEASE_ID.fullmatch(text) for text in (release_id, than))
    if left is None or right is None:
        return False
    return (left["date"], int(left["number"])) < (right["date"], int(right["number"]))


def serving_problems(
    name: str,
    job_types: Iterable[str],
    variables_schema_version: int,
    oldest_compatible_worker: str,
    workers: Sequence[LiveWorker],
) -> list[str]:
    """Say what living workers lack for a process: each job type needs one that understands its variables.

    And none that serves it may be of a release too old for the process.
    """
    problems = []
    for job_type in job_types:
        serving = [worker for worker in workers if job_type in worker.job_types]
        if not serving:
            problems.append(f"job type {job_type} of {name} is served by no live worker")
            continue
        known = sorted({version for worker in serving for version in worker.variables_schema_versions})
        if variables_schema_version not in known:
            problems.append(
                f"job type {job_type} of {name} needs variables schema {variables_schema_version}; live workers know "
                f"{', '.join(map(str, known))}"
            )
        problems += [
            f"job type {job_type} of {name} is served by {worker.instance_id} of {worker.release_id}, which does not know "
            f"variables schema {variables_schema_version}"
            for worker in serving
            if variables_schema_version in known and variables_schema_version not in worker.variables_schema_versions
        ]
        problems += [
            f"job type {job_type} of {name} is served by {worker.instance_id} of "
            f"{worker.release_id}, older than {oldest_compatible_worker}"
            for worker in serving
            if is_older(worker.release_id, oldest_compatible_worker)
        ]
    return problems


def dropped(reached: Iterable[ReachedProcess], served: AbstractSet[str], versions: AbstractSet[int]) -> list[str]:
    """Name what a release would no longer serve although orders can still reach it.

    Args:
        reached: what is reached in the environment.
        served: the release's job types.
        versions: the versions of variables its workers understand.
    """
    problems = []
    for process in reached:
        problems += [
            f"job type {job_type} is still reached by {process.process_id} ({process.because}), and no worker of this "
            "release serves it"
            for job_type in process.job_types
            if job_type not in served
        ]
        problems += [
            f"variables schema {version} is still carried by {process.process_id} ({process.because}), and no worker of "
            "this release understands it"
            for version in process.variables_schema_versions
            if version not in versions
        ]
    return problems


def in_use(reached: Iterable[ReachedProcess]) -> list[ReachedProcess]:
    """Those that an order has: all that a release before must serve, for it passes over routes to what it does not know."""
    return [process for process in reached if process.live]


async def reached(store: ProcessStore) -> list[ReachedProcess]:
    """The process versions that instances may still be of, with all that any content of them asks for.

    An order that has ended here says nothing of its instance: a worker may have died before the engine heard of it. Only
    retirement asks the engine.
    """
    deployments, routes, live, retired = (
        await store.deployments(),
        await store.routes(ROUTE_GRACE),
        await store.live_references(),
        await store.retired(),
    )
    found = []
    for process_id in sorted({deployment.process_id for deployment in deployments}):
        own = [deployment for deployment in deployments if deployment.process_id == process_id]
        pointing = [str(each.route.route_id) for each in routes if each.route.process_id == process_id]
        if process_id not in retired:
            found.append(
                ReachedProcess(
                    process_id=process_id,
                    job_types=sorted({name for deployment in own for name in deployment.job_types}),
                    variables_schema_versions=sorted({deployment.variables_schema_version for deployment in own}),
                    routes=pointing,
                    live=live[process_id].count if process_id in live else 0,
                )
            )
    return found


async def set_route(
    store: ProcessStore, declared: Processes, route: ProcessRoute, reason: RepairReason
) -> tuple[ProcessRoute | None, ProcessRoute]:
    """Send the cases that a route describes to its process; a route for the very same cases is replaced.

    Returns:
        The route that was replaced, or None, and the one that counts now: the former one when nothing changed.

    Raises:
        ProcessRefusedError: the process is not deployed, is retired or lacks workers, or the route asks for what its
            business process or this release does not know.
    """
    await store.hold()
    problems = _condition_problems(declared, route)
    if route.tenant_id is not None and not await store.has_tenant(route.tenant_id):
        problems.append(f"there is no tenant {route.tenant_id}")
    problems += await _target_problems(store, declared, route.process_id)
    if problems:
        raise ProcessRefusedError(*problems)
    same = next((each.route for each in await store.routes() if _is_same_case(each.route, route)), None)
    if same is not None:
        if replace(same, route_id=route.route_id, valid_from=route.valid_from) == route:
            return None, same
        if _takes_every_case(same) and route.valid_to is not None:
            raise ProcessRefusedError(f"route {same.route_id} takes every case and cannot give way to one that ends")
        await store.remove_route(same.route_id, reason)
    await store.add_route(route, reason)
    return same, route


async def remove_route(store: ProcessStore, route_id: UUID, reason: RepairReason) -> ProcessRoute:
    """Take a route away; its cases go to the next one that takes them.

    Raises:
        ProcessRefusedError: there is no such route, or it is the one that takes every case.
    """
    await store.hold()
    routes = {each.route.route_id: each.route for each in await store.routes()}
    route = routes.pop(route_id, None)
    if route is None:
        raise ProcessRefusedError(f"there is no route {route_id}")
    if _takes_every_case(route) and not any(
        _takes_every_case(other) and other.business_process == route.business_process for other in routes.values()
    ):
        raise ProcessRefusedError(
            f"route {route_id} is the last one that takes every case of {route.business_process}: set another one instead"
        )
    await store.remove_route(route_id, reason)
    return route


async def retire(
    store: ProcessStore, declared: Processes, engine: EngineView, process_id: str, reason: RepairReason
) -> None:
    """End a process version for good: nothing can be routed to it again, and what serves only it may be removed.

    Raises:
        ProcessRefusedError: it was never deployed, a route points to it or did a moment ago, or an instance of it is
            pending or alive, here or by the engine's records.
    """
    await store.hold()
    problems = []
    if process_id in await store.retired():
        problems.append(f"{process_id} is retired already")
    if not any(deployment.process_id == process_id for deployment in await store.deployments()):
        problems.append(f"{process_id} was never deployed")
    routing = declared.routing.get(business_process(process_id))
    if routing is not None and routing.default == process_id:
        problems.append(f"{process_id} is the declared default of {business_process(process_id)}")
    for each in await store.routes(ROUTE_GRACE):
        if each.route.process_id == process_id:
            ago = "" if each.removed_at is None else f", removed less than {ROUTE_GRACE.seconds} s ago"
            problems.append(f"route {each.route.route_id} points to {process_id} ({each.route.description}){ago}")
    live = (await store.live_references()).get(process_id)
    if live is not None:
        problems.append(
            f"{live.count} orders have an instance of {process_id} that is pending or alive, the oldest since "
            f"{live.oldest.isoformat(timespec='seconds')}: {_some(live.order_ids, live.count)}"
        )
    instances = sorted(
        (each for each in engine.instances.values() if each.process_id == process_id), key=lambda each: each.began_at
    )
    if instances:
        problems.append(
            f"the engine's records show {len(instances)} living instances of {process_id}: "
            f"{_some([each.key for each in instances[:_NAMED]], len(instances))}"
        )
    if problems:
        raise ProcessRefusedError(*problems)
    await store.retire(process_id, reason)


async def status(store: ProcessStore, declared: Processes, engine: EngineView) -> list[dict[str, Any]]:
    """Every process version that is declared or was ever deployed: deployed, routed, live, and where records disagree."""
    deployments, routes, retired = await store.deployments(), await store.routes(), await store.retired()
    live = await store.live_references()
    described = []
    for process_id in sorted({*declared.processes, *(each.process_id for each in deployments), *live}):
        references = live.get(process_id)
        instances = [each for each in engine.instances.values() if each.process_id == process_id]
        here = await store.instance_keys(process_id)
        visible = {key for key, began_at in here.items() if engine.since is not None and began_at >= engine.since}
        there = {each.key for each in instances}
        retired_at = retired.get(process_id)
        described.append(
            {
                "process_id": process_id,
                "state": _state(process_id, deployments, routes, references, retired_at),
                "retired_at": retired_at,
                "deployments": [
                    {
                        "engine_version": each.engine_version,
                        "engine_key": each.engine_key,
                        "release_id": each.release_id,
                        "git_commit": each.git_commit,
                        "deployed_at": each.deployed_at,
                        "is_in_engine": _is_in_engine(each, engine),
                    }
                    for each in deployments
                    if each.process_id == process_id
                ],
                "routes": [
                    {"route_id": each.route.route_id, "priority": each.route.priority, "for": each.route.description}
                    for each in routes
                    if each.route.process_id == process_id
                ],
                "orders": {
                    "pending": references.pending if references else 0,
                    "live": references.started if references else 0,
                    "oldest": references.oldest if references else None,
                },
                "engine": {
                    "live": len(instances),
                    "oldest": min((each.began_at for each in instances), default=None),
                    "only_in_engine": sorted(there - here.keys())[:_NAMED],
                    "only_in_orders": sorted(visible - there)[:_NAMED],
                },
            }
        )
    return described


def _condition_problems(declared: Processes, route: ProcessRoute) -> list[str]:
    routing = declared.routing.get(route.business_process)
    if routing is None:
        return [f"{route.process_id}: {route.business_process} is no business process of processes.yml"]
    problems = [
        f"{route.business_process} is not routed by {condition}, only by {', '.join(routing.by)}"
        for condition in route.conditions
        if condition not in routing.by
    ]
    if route.flag is not None and route.flag not in declared.route_flags:
        problems.append(f"flag {route.flag} is none of those that routes may name: {', '.join(declared.route_flags)}")
    return problems


async def _target_problems(store: ProcessStore, declared: Processes, process_id: str) -> list[str]:
    """Why orders cannot be sent to a process now; judged by what was deployed last."""
    own = [each for each in await store.deployments() if each.process_id == process_id]
    if not own:
        return [f"process {process_id} is not deployed"]
    if process_id not in declared.processes:
        return [f"process {process_id} is not known to this release, so no order would find it"]
    if process_id in await store.retired():
        return [f"process {process_id} is retired"]
    newest = max(own, key=lambda each: each.engine_version)
    return serving_problems(
        process_id,
        newest.job_types,
        newest.variables_schema_version,
        newest.compatible_worker_release,
        await store.live_workers(),
    )


def _is_same_case(route: ProcessRoute, other: ProcessRoute) -> bool:
    return (route.business_process, route.priority, route.conditions) == (
        other.business_process,
        other.priority,
        other.conditions,
    )


def _takes_every_case(route: ProcessRoute) -> bool:
    return not route.conditions and route.valid_to is None


def _state(
    process_id: str,
    deployments: Sequence[ProcessDeployment],
    routes: Sequence[StoredRoute],
    references: LiveReferences | None,
    retired_at: datetime | None,
) -> str:
    if retired_at is not None:
        return "retired"
    if not any(each.process_id == process_id for each in deployments):
        return "not deployed"
    if any(each.route.process_id == process_id for each in routes):
        return "routed"
    return "draining" if references else "idle"


def _is_in_engine(deployment: ProcessDeployment, engine: EngineView) -> bool | None:
    """Whether the engine's records have this deployment; None when they do not reach back to it."""
    if any(
        (known.key, known.content_sha256) == (deployment.engine_key, deployment.content_sha256)
        for known in engine.processes
    ):
        return True
    is_visible = (
        engine.since is not None and deployment.deployed_at is not None and deployment.deployed_at >= engine.since
    )
    return False if is_visible else None


def _some(ids: Sequence[object], count: int) -> str:
    named = ", ".join(str(each) for each in ids[:_NAMED])
    return named if count <= len(ids[:_NAMED]) else f"{named}, …"
