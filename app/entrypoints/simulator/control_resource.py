"""/control: what tests and operators of the simulator set and read. Not part of any external system's interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import falcon
from falcon.asgi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.entrypoints.simulator.behaviours import Answers, Behaviour, Behaviours, Callbacks, Finish, Mode
from app.entrypoints.simulator.external_system_resource import EnvironmentResource
from app.entrypoints.simulator.ledger import Ledger

_Pause = Annotated[timedelta, Field(ge=timedelta(), le=timedelta(minutes=10))]
_Document = TypeVar("_Document", bound=BaseModel)


class BehaviourDocument(BaseModel):
    """Body of PUT and POST /control/behaviours/{system}; what is left out is the healthy value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Mode.OK
    latency: _Pause = timedelta()
    status: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: Annotated[int, Field(ge=0, le=600)] | None = None
    remaining: Annotated[int, Field(ge=1)] | None = None
    methods: frozenset[str] = frozenset({"POST"})
    order_id: str | None = None
    idempotency_key: str | None = None
    answers: Answers | None = None
    finishes_after: _Pause | None = None
    finishes_as: Finish = "done"
    callbacks: Callbacks = "once"
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class EnvironmentDocument(BaseModel):
    """Body of PUT /control/environment/{system}; without a kind the endpoint proves nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    environment: str = "elsewhere"
    kind: str | None = None


class BehavioursResource:
    """Read all behaviours, replace one, add a rule."""

    def __init__(self, behaviours: Behaviours) -> None:
        self._behaviours = behaviours

    async def on_get(self, req: Request, resp: Response) -> None:
        """List every system's behaviour."""
        resp.media = {
            name: {**_document(behaviour), "rules": [_document(rule) for rule in self._behaviours.rules(name)]}
            for name, behaviour in self._behaviours.current().items()
        }

    async def on_put_system(self, req: Request, resp: Response, system: str) -> None:
        """Replace one system's behaviour, from the next call on, and take its rules away."""
        _known(system, self._behaviours.systems)
        behaviour = Behaviour(**dict(await _body(req, BehaviourDocument)))
        self._behaviours.set(system, behaviour)
        resp.media = _document(behaviour)

    async def on_post_system(self, req: Request, resp: Response, system: str) -> None:
        """Add a rule for the calls it names; the first rule that holds for a call is used."""
        _known(system, self._behaviours.systems)
        rule = Behaviour(**dict(await _body(req, BehaviourDocument)))
        self._behaviours.add(system, rule)
        resp.status = falcon.HTTP_201
        resp.media = _document(rule)


class EnvironmentsResource:
    """Make an endpoint prove something else than the truth, or nothing."""

    def __init__(self, environments: Mapping[str, EnvironmentResource]) -> None:
        self._environments = environments

    async def on_put(self, req: Request, resp: Response, system: str) -> None:
        """Set what the endpoint of a system proves from now on."""
        _known(system, tuple(self._environments))
        document = await _body(req, EnvironmentDocument)
        proof = None if document.kind is None else {"environment": document.environment, "kind": document.kind}
        self._environments[system].set(proof)
        resp.media = proof

    async def on_delete(self, req: Request, resp: Response, system: str) -> None:
        """Let the endpoint tell the truth again."""
        _known(system, tuple(self._environments))
        self._environments[system].reset()
        resp.status = falcon.HTTP_204


class LedgerResource:
    """What was really done, which requests arrived, which callbacks were sent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def on_get(self, req: Request, resp: Response) -> None:
        """List effects and callbacks (of ?orderId=) and requests (with ?idempotencyKey=)."""
        resp.media = {
            "effects": [effect.document() for effect in self._ledger.effects(req.get_param("orderId"))],
            "requests": self._ledger.requests(req.get_param("idempotencyKey")),
            "callbacks": self._ledger.callbacks(req.get_param("orderId")),
        }


def _known(system: str, systems: tuple[str, ...]) -> None:
    if system not in systems:
        raise falcon.HTTPNotFound(title=f"No such system; there are {', '.join(systems)}")


async def _body(req: Request, model: type[_Document]) -> _Document:
    try:
        return model.model_validate(await req.get_media())
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise falcon.HTTPUnprocessableEntity(title="Not understood", description="; ".join(problems)) from None


def _document(behaviour: Behaviour) -> dict[str, Any]:
    after = behaviour.finishes_after
    return {
        **asdict(behaviour),
        "latency": f"PT{behaviour.latency.total_seconds():g}S",
        "finishes_after": None if after is None else f"PT{after.total_seconds():g}S",
        "methods": sorted(behaviour.methods),
    }
