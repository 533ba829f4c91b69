"""The two pages that people keep of a release: the rollback plan of spec 15.3 and the runbook of spec 24, filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.application.release_plan.described import Surroundings
from app.application.release_plan.model import Change, Step, Verdict, Way
from app.contracts.loader import LaterAct

PRE_CHECKS = (
    "DB health",
    "Kafka health",
    "Camunda health",
    "Redis health",
    "current error rate",
    "current outbox backlog",
    "current incident/fallout count",
)
POST_CHECKS = (
    "API latency",
    "error rate",
    "Kafka lag",
    "Camunda incidents",
    "DB locks",
    "business transaction success rate",
)
_ANSWER = {Way.POSSIBLE: "yes", Way.CONDITIONAL: "conditional", Way.FORWARD_ONLY: "no"}
_NONE = "none"


def template(
    release_id: str, live: Sequence[str], changes: Sequence[Change], verdict: Verdict, around: Surroundings
) -> Mapping[str, str]:
    """The rollback plan, by the lines of spec 15.3."""
    before = ", ".join(live) or "nothing"
    asks = dict.fromkeys(ground.ask for ground in verdict.grounds if ground.ask and ground.way is not Way.POSSIBLE)
    back = {
        Way.POSSIBLE: f"release the bundle of {before}: ansible-playbook rollback.yml -i ENV",
        Way.CONDITIONAL: f"ask first ({'; '.join(asks)}), as this does; then release the bundle of {before}: "
        "ansible-playbook rollback.yml -i ENV",
        Way.FORWARD_ONLY: "none: go on to a corrected release",
    }
    repairs = [change.name for change in changes if change.kind in {"backfill", "contract"}]
    return {
        "release id": release_id,
        "components changed": _names(changes, "unit"),
        "database migration": _names(changes, "expand", "backfill", "contract"),
        "bpmn changed": _names(changes, "process", "job-type", "variables"),
        "kafka topic/schema changed": _names(changes, "topic", "event"),
        "redis key changed": _names(changes, "redis-key"),
        "rollback possible": _ANSWER[verdict.way],
        "rollback steps": back[verdict.way] if live else "none: no other release is installed",
        "roll-forward steps": "correct the fault, build a bundle of the same generation, and give the same command again; "
        "finished steps are not taken twice",
        "data repair needed": f"what {', '.join(repairs)} changed, if it is taken back" if repairs else _NONE,
        "validation after rollback/forward": "smoke test, window and post-checks of release.yml; cpq-oms-admin reconcile run",
        "owner": around.owner or "not named",
    }


def runbook(
    release_id: str,
    declared: Sequence[str],
    steps: Sequence[Step],
    *,
    afterwards: Sequence[LaterAct],
    filled: Mapping[str, str],
    around: Surroundings,
) -> Mapping[str, tuple[str, ...]]:
    """The runbook, by the headings of spec 24; each line of it with what this release does there."""
    lines: list[str] = []
    for number, line in enumerate(declared, 1):
        acting = [step for step in steps if step.runbook == number and step.acts]
        doing = [f"{step.play} [{', '.join(step.hosts)}]" if step.hosts else step.play for step in acting]
        left = [later.act for later in afterwards if later.runbook == number]
        lines.append(f"{number}. {line}")
        lines += [f"   {each}" for each in (*doing, *left)] or ["   nothing in this release"]
    return {
        "Release": (release_id,),
        "Window": (around.window or "not named",),
        "Owner": (around.owner or "not named",),
        "Approvers": (around.approvers or "not named",),
        "Pre-check": PRE_CHECKS,
        "Steps": tuple(lines),
        "Rollback / roll-forward": (
            f"condition: a step fails, or the window or a post-check does; rollback possible: {filled['rollback possible']}",
            f"steps: {filled['rollback steps']}; roll-forward: {filled['roll-forward steps']}",
            f"validation: {filled['validation after rollback/forward']}",
        ),
        "Post-check": POST_CHECKS,
    }


def _names(changes: Sequence[Change], *kinds: str) -> str:
    return ", ".join(dict.fromkeys(change.name for change in changes if change.kind in kinds)) or _NONE
