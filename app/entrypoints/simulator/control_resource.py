"""/control: what tests and operators of the simulator set and read. Not part of any external system's interface."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import falcon
from falcon.asgi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.entrypoints.simulator.behaviours import SYSTEMS, Behaviour, Behaviours, Mode
from app.entrypoints.simulator.ledger import Ledger


class BehaviourDocument(BaseModel):
    """Body of PUT /control/behaviours/{system}; what is left out is the healthy value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Mode.OK
    latency: Annotated[timedelta, Field(ge=timedelta(), le=timedelta(minutes=10))] = timedelta()
    status: Annotated[int, Field(ge=400, le=599)] = 500
    remaining: Annotated[int, Field(ge=1)] | None = None
    methods: frozenset[str] = frozenset({"POST"})


class BehavioursResource:
    """Read all behaviours, replace one."""

    def __init__(self, behaviours: Behaviours) -> None:
        self._behaviours = behaviours

    async def on_get(self, req: Request, resp: Response) -> None:
        """List every system's behaviour."""
        resp.media = {name: _document(behaviour) for name, behaviour in self._behaviours.current().items()}

    async def on_put_system(self, req: Request, resp: Response, system: str) -> None:
        """Replace one system's behaviour, from the next call on."""
        if system not in SYSTEMS:
            raise falcon.HTTPNotFound(title=f"No such system; there are {', '.join(SYSTEMS)}")
        try:
            document = BehaviourDocument.model_validate(await req.get_media())
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise falcon.HTTPUnprocessableEntity(title="Not a behaviour", description="; ".join(problems)) from None
        behaviour = Behaviour(**dict(document))
        self._behaviours.set(system, behaviour)
        resp.media = _document(behaviour)


class LedgerResource:
    """What was really done, and which requests arrived."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def on_get(self, req: Request, resp: Response) -> None:
        """List effects (of ?orderId=) and requests (with ?idempotencyKey=)."""
        resp.media = {
            "effects": [effect.document() for effect in self._ledger.effects(req.get_param("orderId"))],
            "requests": self._ledger.requests(req.get_param("idempotencyKey")),
        }


def _document(behaviour: Behaviour) -> dict[str, Any]:
    return {
        **asdict(behaviour),
        "latency": f"PT{behaviour.latency.total_seconds():g}S",
        "methods": sorted(behaviour.methods),
    }
