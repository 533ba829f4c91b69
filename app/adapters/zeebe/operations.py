"""What operators ask of the workflow engine: is it whole, and take these processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
from pyzeebe import ZeebeClient
from pyzeebe.errors import ProcessInvalidError, PyZeebeError
from pyzeebe.grpc_internals.types import DeployResourceResponse, TopologyResponse
from pyzeebe.proto.gateway_pb2 import ResolveIncidentRequest, UpdateJobRetriesRequest
from pyzeebe.proto.gateway_pb2_grpc import GatewayStub

from app.adapters.zeebe.channel import GatewayIdentity, open_channel
from app.application.operations import OperationError

if TYPE_CHECKING:
    from pyzeebe.proto.gateway_pb2_grpc import GatewayAsyncStub

_TIMEOUT_SECONDS = 5.0
_ROLE = TopologyResponse.BrokerInfo.Partition.PartitionBrokerRole
_HEALTH = TopologyResponse.BrokerInfo.Partition.PartitionBrokerHealth


class EngineUnreachableError(OperationError):
    """The gateway did not answer; the message says how it failed."""


class DeploymentRefusedError(OperationError):
    """The engine refused a process; the message is the engine's."""


@dataclass(frozen=True)
class EngineState:
    """Brokers that are there, brokers there should be, and partitions without a healthy leader."""

    brokers: int
    cluster_size: int
    unhealthy: tuple[int, ...]


@dataclass(frozen=True)
class DeployedProcess:
    """What the engine answered for one process; content it has already keeps its version."""

    process_id: str
    version: int
    key: int


class EngineOperations:
    """One session of the gateway."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._client = ZeebeClient(channel, max_connection_retries=1)
        # The library has no words for incidents.
        self._stub = cast("GatewayAsyncStub", GatewayStub(channel))

    async def state(self) -> EngineState:
        """Describe the engine's health.

        Raises:
            EngineUnreachableError: no answer.
        """
        try:
            topology = await self._client.topology()
        except PyZeebeError as error:
            raise EngineUnreachableError(f"{type(error).__name__} {error}".strip()) from error
        led = {
            partition.partition_id
            for broker in topology.brokers
            for partition in broker.partitions
            if partition.role == _ROLE.LEADER and partition.health == _HEALTH.HEALTHY
        }
        partitions = range(1, (topology.partitions_count or 0) + 1)
        return EngineState(
            brokers=len(topology.brokers),
            cluster_size=topology.cluster_size or 0,
            unhealthy=tuple(number for number in partitions if number not in led),
        )

    async def deploy(self, files: Sequence[Path]) -> list[DeployedProcess]:
        """Give the engine these files, all or none.

        Raises:
            DeploymentRefusedError: the engine found a process invalid.
            EngineUnreachableError: no answer; the engine may have taken them: giving them again changes nothing.
        """
        try:
            response = await self._client.deploy_resource(*files)
        except ProcessInvalidError as error:
            details = getattr(error.__cause__, "details", str)
            raise DeploymentRefusedError(str(details())) from error
        except PyZeebeError as error:
            raise EngineUnreachableError(f"{type(error).__name__} {error}".strip()) from error
        return [
            DeployedProcess(deployment.bpmn_process_id, deployment.version, deployment.process_definition_key)
            for deployment in response.deployments
            if isinstance(deployment, DeployResourceResponse.ProcessMetadata)
        ]

    async def resolve_incident(self, incident_key: int, job_key: int, retries: int) -> bool:
        """Give the job of an incident its retries back and resolve the incident; False when it was resolved before.

        Raises:
            EngineUnreachableError: no answer; repeat it.
        """
        try:
            await self._stub.UpdateJobRetries(
                UpdateJobRetriesRequest(jobKey=job_key, retries=retries), timeout=_TIMEOUT_SECONDS
            )
            await self._stub.ResolveIncident(ResolveIncidentRequest(incidentKey=incident_key), timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise EngineUnreachableError(f"{error.code().name} {error.details()}") from error
        return True


@asynccontextmanager
async def open_engine(addresses: str, identity: GatewayIdentity | None = None) -> AsyncIterator[EngineOperations]:
    """Connect to a gateway, whichever answers.

    Raises:
        EngineUnreachableError: nothing answers there within five seconds.
    """
    channel = open_channel(addresses, identity)
    try:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await channel.channel_ready()
        except TimeoutError as error:
            raise EngineUnreachableError(f"nothing answers on {addresses}") from error
        yield EngineOperations(channel)
    finally:
        await channel.close()
