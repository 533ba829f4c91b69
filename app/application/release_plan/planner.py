"""Makes a plan of what is live and what is to be. It asks nobody: the same descriptions give the same plan."""

from __future__ import annotations

from dataclasses import replace

from app.application.release_plan import runbook
from app.application.release_plan.changes import changes, compatibility
from app.application.release_plan.described import Bundle, Described, Live, Surroundings
from app.application.release_plan.model import Change, Plan
from app.application.release_plan.rules import refusals
from app.application.release_plan.steps import afterwards, readers_first, steps
from app.application.release_plan.verdict import verdict
from app.contracts.compatibility.events import is_earlier
from app.contracts.loader import ReleaseSteps


def plan(bundle: Bundle, live: Live, around: Surroundings, declared: ReleaseSteps) -> Plan:
    """Compare, order, refuse and judge.

    A release that was cut short has two releases on its hosts: the bundle's own is not held against itself, and every other
    one is.
    """
    release_id = bundle.release.release_id
    others = sorted((one for one in around.installed if one.release_id != release_id), key=lambda one: one.release_id)
    is_first = not around.installed
    if is_first:
        # Who could not be asked because nothing is there has nothing.
        live = replace(live, deployed=live.deployed or {}, migrations=live.migrations or {})
    # One that is installed everywhere is held to itself: then no contract differs, but what the engine has may.
    befores: list[Described | None] = [*(others or around.installed)] or [None]
    found: set[Change] = set()
    for before in befores:
        goes_back = before is not None and is_earlier(release_id, before.release_id)
        found.update(changes(bundle, before, live, around, is_backward=goes_back))
    differences = sorted(found, key=lambda each: (each.kind, each.name, each.text))
    is_backward = bool(others) and all(is_earlier(release_id, one.release_id) for one in others)
    judged = verdict(differences, live, is_first=is_first)
    ordered, left = steps(declared, differences, around), afterwards(declared, differences)
    names = tuple(one.release_id for one in others)
    filled = runbook.template(release_id, names, differences, judged, around)
    return Plan(
        release_id=release_id,
        live=tuple(one.release_id for one in sorted(around.installed, key=lambda one: one.release_id)),
        is_backward=is_backward,
        readers_first=readers_first(differences),
        compatibility=compatibility(bundle, [one for one in befores if one is not None], differences),
        changes=tuple(differences),
        steps=ordered,
        afterwards=tuple(later.act for later in left),
        refusals=refusals(bundle, others, live, differences, is_backward=is_backward, way_back_to=around.way_back_to),
        verdict=judged,
        template=filled,
        runbook=runbook.runbook(release_id, declared.runbook, ordered, afterwards=left, filled=filled, around=around),
    )
