"""What is recorded of a deployment is what the engine itself says; a version ends only when the engine has let go of it."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from pyzeebe import ZeebeClient

from app.adapters.kafka.engine_records import EngineRecords
from app.adapters.postgres.pool import Connection
from app.adapters.postgres.process_administration import PostgresProcessStore
from app.adapters.postgres.process_deployments import ProcessDeployments
from app.adapters.zeebe.channel import open_channel
from app.adapters.zeebe.operations import EngineOperations
from app.adapters.zeebe.process_definitions import ProcessDefinition, read_definitions
from app.contracts.loader import Processes, ProcessVersion, load_processes
from app.runtime.release import Release
from tests.support.kafka import Kafka
from tests.support.operator import Operator
from tests.support.services import Services
from tests.support.waiting import eventually

BPMN = Path(__file__).resolve().parents[3] / "bpmn"
REASON = ("--reason", "end of the probe, CHG-4712")
RELEASE = Release("cpq-oms-2026.11.23-001", "0" * 40)


@pytest.fixture
def records(services: Services) -> EngineRecords:
    return EngineRecords(Kafka(services).connection("admin"))


@pytest.fixture
async def channel(services: Services) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(services.address("zeebe")) as channel:
        yield channel


@pytest.fixture
def probe(tmp_path: Path) -> ProcessDefinition:
    """A version of its own, with a job type that nobody serves: its instances stay where they begin."""
    process_id = f"order-fulfillment-v{random.randint(1000, 999_999)}"
    file = tmp_path / f"{process_id}.bpmn"
    text = (BPMN / "order-fulfillment-v1.bpmn").read_text()
    for job_type in load_processes().processes["order-fulfillment-v1"].job_types:
        text = text.replace(f'type="{job_type}"', 'type="probe"')
    file.write_text(text.replace("order-fulfillment-v1", process_id))
    declared = ProcessVersion(
        file=file.name,
        start_message=f"{process_id}.start",
        job_types=("probe",),
        variables_schema="order-fulfillment.v1.schema.json",
        variables_schema_version=1,
        oldest_compatible_worker=RELEASE.release_id,
    )
    [definition] = read_definitions(tmp_path, Processes(routing={}, route_flags=(), processes={process_id: declared}))
    return definition


async def deploy(
    definitions: list[ProcessDefinition], channel: grpc.aio.Channel, connection: Connection, release: Release
) -> None:
    """Give the engine processes and record its answers, as `bpmn deploy` does."""
    by_id = {item.process_id: item for item in definitions}
    for answer in await EngineOperations(channel).deploy([item.file for item in definitions]):
        recorded = by_id[answer.process_id].as_deployed(answer.version, answer.key, release)
        await ProcessDeployments(connection).record(recorded)


async def test_each_recorded_deployment_is_one_that_the_engine_exported(
    channel: grpc.aio.Channel, admin_connection: Connection, records: EngineRecords
) -> None:
    definitions = read_definitions(BPMN, load_processes())
    await deploy(definitions, channel, admin_connection, RELEASE)
    contents = {(item.process_id, item.content_sha256) for item in definitions}
    recorded = {
        (row.process_id, row.engine_version, row.engine_key, row.content_sha256): row
        for row in await ProcessDeployments(admin_connection).all()
        if (row.process_id, row.content_sha256) in contents
    }

    async def are_exported() -> bool:
        return recorded.keys() <= {
            (known.process_id, known.version, known.key, known.content_sha256)
            for known in records.processes().processes
        }

    await eventually(are_exported, "every recorded deployment is in the engine's own records", 10)
    assert len(recorded) == len(definitions)
    for row in recorded.values():
        assert re.fullmatch(r"[0-9a-f]{40}|unreleased", row.git_commit)
        assert re.fullmatch(r"cpq-oms-\d{4}\.\d\d\.\d\d-\d+.*|unreleased", row.release_id)
        assert row.compatible_worker_release
        assert row.variables_schema_version >= 1
        assert row.job_types
        assert row.deployed_at is not None


async def test_a_version_that_the_engine_still_runs_is_not_retired_and_then_it_is(
    channel: grpc.aio.Channel,
    admin_connection: Connection,
    records: EngineRecords,
    operator: Operator,
    probe: ProcessDefinition,
) -> None:
    engine = ZeebeClient(channel)
    await deploy([probe], channel, admin_connection, RELEASE)
    await engine.publish_message(f"{probe.process_id}.start", correlation_key="probe", message_id=probe.process_id)

    async def instances() -> list[int]:
        live = records.processes().instances.values()
        return [each.key for each in live if each.process_id == probe.process_id]

    async def is_live() -> bool:
        return len(await instances()) == 1

    async def is_over() -> bool:
        return await instances() == []

    await eventually(is_live, "the engine exported the probe's instance")
    [key] = await instances()
    refused = await operator.run("processes", "retire", probe.process_id, *REASON)
    assert refused.problems == (f"the engine's records show 1 living instances of {probe.process_id}: {key}",)

    await engine.cancel_process_instance(key)
    await eventually(is_over, "the engine exported the end of the probe's instance")
    retired = await operator.run("processes", "retire", probe.process_id, *REASON)

    assert (list(retired.changes), retired.problems) == ([f"retire {probe.process_id}"], ())
    assert probe.process_id in await PostgresProcessStore(admin_connection).retired()
    again = await operator.run("processes", "retire", probe.process_id, *REASON)
    assert again.problems == (f"{probe.process_id} is retired already",)
