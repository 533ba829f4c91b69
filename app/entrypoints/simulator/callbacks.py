"""Ends accepted work at its time and calls back: signed as the contract says, again and again until it is taken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from app.contracts.callbacks import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature, tenant_key
from app.entrypoints.simulator.ledger import Effect, Ledger, Plan
from app.runtime.clock import Clock
from app.runtime.ids import Ids
from app.runtime.logging import get_logger

log = get_logger(__name__)

_TRIES = 6
_FIRST_PAUSE = 0.5
_ANSWER_SECONDS = 5.0
_TAKEN = range(200, 300)
_REFUSED = range(400, 500)


class Finisher:
    """The time after an accepted call.

    Args:
        ledger: what was accepted and what became of it.
        secrets: by system, what its tenants' signing keys are made from; a system without one does not call back.
        clock: wall time.
        ids: names of callbacks.
    """

    def __init__(self, ledger: Ledger, secrets: Mapping[str, str], clock: Clock, ids: Ids) -> None:
        self._ledger = ledger
        self._secrets = secrets
        self._clock = clock
        self._ids = ids
        self._tasks: set[asyncio.Task[None]] = set()
        # Urllib would ask the environment for a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def resume(self) -> None:
        """Take up what a former run of the simulator accepted and did not end."""
        for effect in self._ledger.unfinished():
            self.schedule(effect)

    def schedule(self, effect: Effect) -> None:
        """End accepted work when its time has come."""
        task = asyncio.get_running_loop().create_task(self._finish_later(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Leave what has not ended to the next run."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def finish(self, effect: Effect) -> Effect:
        """End accepted work now, and call back."""
        plan, ended = effect.plan, self._ledger.finish(effect)
        log.info("finished", system=ended.system, idempotency_key=ended.idempotency_key, state=ended.state)
        if plan is not None and plan.callbacks != "none" and plan.callback_url and ended.system in self._secrets:
            await self._call_back(ended, plan, plan.callback_url)
        return ended

    async def _finish_later(self, effect: Effect) -> None:
        if effect.plan is not None:
            await asyncio.sleep(max(0.0, (effect.plan.finishes_at - self._clock.now()).total_seconds()))
        await self.finish(effect)

    async def _call_back(self, effect: Effect, plan: Plan, url: str) -> None:
        callback_id = str(self._ids.new())
        document = {
            "callbackId": callback_id,
            "idempotencyKey": effect.idempotency_key,
            "orderId": effect.order_id,
            "id": effect.reference,
            "outcome": effect.state,
            "occurredAt": self._clock.now().isoformat(),
        }
        body = json.dumps(document).encode()
        for _ in range(2 if plan.callbacks == "twice" else 1):
            await self._deliver(effect, callback_id, url, body)

    async def _deliver(self, effect: Effect, callback_id: str, url: str, body: bytes) -> None:
        key = tenant_key(self._secrets[effect.system], effect.system, effect.tenant_id)
        pause = _FIRST_PAUSE
        for attempt in range(1, _TRIES + 1):
            timestamp = int(self._clock.now().timestamp())
            headers = {
                "Content-Type": "application/json",
                TIMESTAMP_HEADER: str(timestamp),
                SIGNATURE_HEADER: signature(key, timestamp, body),
            }
            answer = await asyncio.to_thread(self._post, url, body, headers)
            self._ledger.delivered(callback_id, effect, url, effect.state, answer)
            status = int(answer) if answer.isdecimal() else 0
            if status in _TAKEN or status in _REFUSED or attempt == _TRIES:
                return
            await asyncio.sleep(pause)
            pause *= 2

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> str:
        """The status that was answered, or why there was none."""
        request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 - the caller names it, as real systems let it
        try:
            with self._opener.open(request, timeout=_ANSWER_SECONDS) as response:
                return str(response.status)
        except urllib.error.HTTPError as error:
            return str(error.code)
        except OSError as error:
            return type(error).__name__
