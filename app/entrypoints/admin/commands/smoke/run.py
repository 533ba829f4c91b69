"""The synthetic order: made as a customer's system would, by a tenant that exists for the proof alone, and seen completed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.adapters.http.platform_client import Account, NotServedError, PlatformClient
from app.application.operations import OperationError
from app.entrypoints.admin.outcome import Outcome
from app.entrypoints.admin.wiring import Session
from app.runtime.clock import Clock, SystemClock
from app.runtime.ids import UuidV7Ids
from app.runtime.logging import get_logger

CLIENT = "smoke"
CUSTOMER = "synthetic-order"
"""The customer of every order that is made here, whoever the tenant is."""

_COMPLETED = "completed"
_ENDED = frozenset({_COMPLETED, "failed", "cancelled"})
_LOOK_SECONDS = 0.5


class SmokeFailedError(OperationError):
    """A step was not seen to happen; the message names it."""


class Journey:
    """One synthetic order.

    Args:
        client: the platform, as a customer's system sees it.
        clock: monotonic time.
        patience: seconds until the order must be completed.
        look: seconds between two looks at it.
    """

    def __init__(self, client: PlatformClient, clock: Clock, patience: float, look: float = _LOOK_SECONDS) -> None:
        self._client, self._clock, self._patience, self._look = client, clock, patience, look
        self.found: dict[str, Any] = {}

    async def make(self) -> None:
        """Take an order from token to completed; what was reached so far is in `found`, with the seconds of each step.

        Raises:
            SmokeFailedError: a step did not happen.
        """
        await self._step("token", self._client.log_in)
        offerings = await self._step("catalog", self._client.offerings)
        priced = next((one for one in offerings if one.get("prices")), None)
        if priced is None:
            raise SmokeFailedError("smoke test: catalog: the tenant sells nothing that has a price")
        currency = priced["prices"][0]["currency"]
        quote = await self._step("quote", lambda: self._client.quote(CUSTOMER, currency, priced["id"]))
        self.found["quote_id"] = quote["id"]
        order = await self._step("order", lambda: self._client.order(quote))
        self.found["order_id"] = order["id"]
        await self._step("fulfillment", lambda: self._fulfilled(order["id"]))

    async def _fulfilled(self, order_id: str) -> None:
        deadline = self._clock.monotonic() + self._patience
        while (state := await self._client.state(order_id)) not in _ENDED:
            if self._clock.monotonic() > deadline:
                raise NotServedError(f"order {order_id} is {state} after {self._patience:g} s")
            await asyncio.sleep(self._look)
        if state != _COMPLETED:
            raise NotServedError(f"order {order_id} is {state}")

    async def _step(self, name: str, do: Callable[[], Any]) -> Any:
        started = self._clock.monotonic()
        try:
            return await do()
        except (NotServedError, KeyError, TypeError) as error:
            why = str(error) if isinstance(error, NotServedError) else f"an answer without {error}"
            raise SmokeFailedError(f"smoke test: {name}: {why}") from error
        finally:
            self.found[f"{name}_seconds"] = round(self._clock.monotonic() - started, 2)


def command(
    context: typer.Context,
    figures: Annotated[Path | None, typer.Option(help="Write the result there, as Prometheus reads it.")] = None,
    patience: Annotated[int, typer.Option(min=1, max=600, help="Seconds until the order must be completed.")] = 60,
) -> Outcome:
    """Make one order of SMOKE_TENANT and see it completed; exit 1, with the step's name, when it is not.

    Where the tenant's orders have effects outside, this one has them, too.
    """
    session: Session = context.obj
    return asyncio.run(_run(session, figures, float(patience)))


async def _run(session: Session, figures: Path | None, patience: float) -> Outcome:
    settings, clock = session.settings, SystemClock()
    account = Account(
        settings.smoke_token_url, CLIENT, settings.smoke_client_secret.get_secret_value(), settings.smoke_tenant
    )
    started, passed = clock.monotonic(), False
    try:
        async with (
            session.database() as connection,
            session.audited(connection, "smoke run") as detail,
            PlatformClient(settings.smoke_api_url, account, settings.tls_ca_file, UuidV7Ids()) as client,
        ):
            detail["tenant"] = settings.smoke_tenant
            journey = Journey(client, clock, patience)
            try:
                await journey.make()
            finally:
                detail.update(journey.found)
            passed = True
    finally:
        seconds = clock.monotonic() - started
        get_logger(__name__).info("smoke test", passed=passed, seconds=round(seconds, 2))
        if figures is not None:
            write_figures(figures, passed=passed, ended=clock.now().timestamp(), seconds=seconds)
    return Outcome(data=dict(detail))


def write_figures(path: Path, *, passed: bool, ended: float, seconds: float) -> None:
    """Write what the last run came to, for Prometheus' node exporter; the file is replaced as a whole."""
    told = (
        ("cpq_smoke_passed", "1 when the last synthetic order was completed, else 0.", f"{int(passed)}"),
        ("cpq_smoke_finished_timestamp_seconds", "When the last synthetic order ended.", f"{ended:.0f}"),
        ("cpq_smoke_duration_seconds", "How long it took.", f"{seconds:.2f}"),
    )
    lines = [f"# HELP {name} {about}\n# TYPE {name} gauge\n{name} {value}\n" for name, about, value in told]
    beside = path.with_suffix(".new")
    beside.write_text("".join(lines))
    beside.chmod(0o644)  # the exporter is somebody else
    beside.replace(path)
