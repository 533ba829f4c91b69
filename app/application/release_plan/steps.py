"""Which steps of a release act, in the one order there is, and why each comes where it comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.application.release_plan.described import Surroundings
from app.application.release_plan.model import Change, Step
from app.contracts.compatibility.finding import Level
from app.contracts.loader import LaterAct, ReleasePart, ReleaseStep, ReleaseSteps


def readers_first(changes: Iterable[Change]) -> bool:
    """Whether consumers meet something new in events, so that they come before everybody who writes them."""
    return any(change.kind == "event" and change.forward is not Level.COMPATIBLE for change in changes)


def steps(declared: ReleaseSteps, changes: Sequence[Change], around: Surroundings) -> tuple[Step, ...]:
    """All steps as declared; those that this release has nothing for are marked."""
    first = readers_first(changes)
    return tuple(_step(declared, step, changes, around, first=first) for step in declared.steps)


def afterwards(declared: ReleaseSteps, changes: Iterable[Change]) -> tuple[LaterAct, ...]:
    """What is left for people, each act once, in the order of the kinds."""
    kinds = {change.kind for change in changes if change.new is not None}
    acts = [later for kind, order in declared.orders.items() if kind in kinds for later in order.afterwards]
    return tuple(dict.fromkeys(acts))


def _step(
    declared: ReleaseSteps, step: ReleaseStep, changes: Sequence[Change], around: Surroundings, *, first: bool
) -> Step:
    applies = step.readers_first in {None, first} and (
        step.part in {None, "others"} or bool(around.parts.get(step.part))
    )
    brings = [change for change in changes if applies and _brings(declared, step, change)]
    hosts = _hosts(step.hosts, around)
    if step.units and step.part is not None:
        hosts = tuple(host for host in hosts if _part_of(host, around) == step.part)
    if step.units or step.step == "install":
        hosts = tuple(host for host in hosts if around.differs is None or host in around.differs)
    if step.part == "others" and around.parts:
        applies = applies and bool(hosts)
    if step.units and around.differs is not None:
        # A setting or a unit file may differ where the release is the same.
        acts = applies and bool(hosts)
    else:
        acts = applies and (bool(brings) or not _is_by_change(declared, step))
    return Step(
        step.step,
        step.play,
        step.playbook,
        step.runbook,
        step.spec,
        hosts if acts else (),
        acts,
        tuple(f"{change.kind} {change.name}" for change in brings),
        step.reason,
        step.gate,
    )


def _part_of(host: str, around: Surroundings) -> ReleasePart:
    return next((part for part, hosts in around.parts.items() if host in hosts), "others")


def _is_by_change(declared: ReleaseSteps, step: ReleaseStep) -> bool:
    """Whether the step is there for changes alone; what judges is part of every release."""
    brought = {name for order in declared.orders.values() for name in order.steps}
    return bool(step.units) or (step.step in brought and step.runbook > 0)


def _brings(declared: ReleaseSteps, step: ReleaseStep, change: Change) -> bool:
    if change.unit is not None and step.units:
        return change.unit in step.units
    return step.step in declared.orders[change.kind].steps


def _hosts(pattern: str, around: Surroundings) -> tuple[str, ...]:
    """The hosts of a play: groups, all that there are, or the first of a group."""
    if pattern.endswith("[0]"):
        return around.hosts.get(pattern.removesuffix("[0]"), ())[:1]
    groups = [group for group in pattern.split(":") if not group.startswith("!")]
    return tuple(dict.fromkeys(host for group in groups for host in around.hosts.get(group, ())))
