"""Starts processes in Zeebe by message: the engine drops a message whose id it has seen, so a start can be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import grpc
from pyzeebe.errors import MessageAlreadyExistsError, PyZeebeError
from pyzeebe.grpc_internals.zeebe_adapter import ZeebeAdapter

from app.adapters.zeebe.channel import AWAY, describe
from app.application.ports import EngineRefused, EngineUnavailable

MESSAGE_LIFETIME = timedelta(hours=24)
"""How long the engine remembers a message id: longer than a start may have to be repeated."""

_MILLISECOND = timedelta(milliseconds=1)


class ZeebeWorkflowEngine:
    """See `app.application.ports.WorkflowEngine`.

    Args:
        channel: from `open_channel`; closed by its owner.
        timeout: for one publication; the library itself would wait for ever.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout: timedelta = timedelta(seconds=5)) -> None:
        self._adapter = ZeebeAdapter(channel, max_connection_retries=-1)
        self._timeout = timeout.total_seconds()

    async def start(
        self, process_id: str, *, correlation_key: str, message_id: str, variables: Mapping[str, Any]
    ) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                await self._adapter.publish_message(
                    name=f"{process_id}.start",
                    correlation_key=correlation_key,
                    time_to_live_in_milliseconds=MESSAGE_LIFETIME // _MILLISECOND,
                    variables=dict(variables),
                    message_id=message_id,
                )
        except MessageAlreadyExistsError:
            return False
        except AWAY as error:
            raise EngineUnavailable(describe(error)) from error
        except PyZeebeError as error:
            raise EngineRefused(describe(error)) from error
        return True
