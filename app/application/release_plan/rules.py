"""What a release may not do, each rule with what to do instead. A rule whose facts are not known says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from app.application.migration_header import phase_of
from app.application.process_versions import dropped, in_use, is_older
from app.application.release_plan.described import Applied, Bundle, Described, Live, Migration
from app.application.release_plan.model import Change, Refusal
from app.contracts.compatibility.events import is_earlier
from app.contracts.compatibility.finding import Level

_SUNSET = "x-sunset"
_DATE = re.compile(r"cpq-oms-(?P<date>[0-9]{4}\.[0-9]{2}\.[0-9]{2})-")

_BREAKING = {
    "event": (
        "producer-before-consumers",
        "Make it optional, or publish it as a new version on a topic of its own beside this one: consumers of both forms first",
    ),
    "topic": (
        "producer-before-consumers",
        "Leave the topic as it is and declare another one beside it, until nobody reads the old one",
    ),
    "api": (
        "breaking-without-parallel-version",
        "Serve a later version of the path beside this one, mark this one deprecated with an x-sunset date, and let clients move",
    ),
    "variables": (
        "breaking-without-parallel-version",
        "Leave the version as it is; make a new version of schema and process beside it, and route new instances to that",
    ),
    "setting": (
        "setting-not-in-inventory",
        "Say it in group_vars of the inventory as the bundle needs it, or give the setting another name",
    ),
    "redis-key": ("redis-version-reused", "Raise value_version beyond every version that was used"),
    "flag": ("breaking-without-parallel-version", "Give the flag of the other type another name"),
}


def refusals(
    bundle: Bundle,
    installed: Sequence[Described],
    live: Live,
    changes: Sequence[Change],
    *,
    is_backward: bool,
    way_back_to: str = "",
) -> tuple[Refusal, ...]:
    """Everything that stands against the release, by rule.

    Args:
        bundle: what is to be.
        installed: the releases on some host, the bundle's own left out.
        live: what the environment answered.
        changes: as they were found.
        is_backward: whether the bundle goes back.
        way_back_to: the release that live data was asked for and that may run again.
    """
    is_proven = way_back_to == bundle.release.release_id
    found = [
        *(() if is_proven else _way_back_is_asked(bundle, installed)),
        *_processes_have_workers(bundle, changes),
        *_reached_is_served(bundle, live, is_proven=is_proven),
        *_nothing_breaks(changes),
        *_contracts_wait(bundle, installed, live),
        *_backfills_come_before(bundle, live),
        *_applied_is_not_edited(bundle, live),
        *_removed_is_not_looked_for(bundle, live),
        *_path(bundle, installed),
    ]
    if not is_backward:
        for before in installed:
            found += _deprecation_window(bundle.release, before, changes)
    return tuple(sorted(set(found), key=lambda each: (each.rule, each.what)))


def _processes_have_workers(bundle: Bundle, changes: Sequence[Change]) -> Iterator[Refusal]:
    """Workers of the bundle replace those that are alive before the process is deployed, so they alone count."""
    rule = "bpmn-before-workers"
    declared = bundle.release.declared("job_types") or {}
    served, versions = declared.get("job_types", {}), declared.get("variables_schema_versions", ())
    for process in bundle.processes:
        for name in process.job_types:
            if name not in served:
                remedy = f"Add {name} to job_types.yml with its worker, or release the workers first"
                yield Refusal(rule, f"job type {name} of {process.file} has no worker in the bundle", remedy)
        if process.variables_schema_version not in versions:
            what = f"{process.file} has version {process.variables_schema_version} of its variables, which the bundle's workers do not understand"
            yield Refusal(rule, what, "Add the version to variables_schema_versions with workers that understand it")
        if is_older(bundle.release.release_id, process.oldest_compatible_worker):
            what = f"{process.file} needs workers of {process.oldest_compatible_worker} or later, and the bundle's are older"
            yield Refusal(rule, what, "Release a bundle that is no older, or correct oldest_compatible_worker")
    new = [change.name for change in changes if change.kind == "process" and change.new is not None]
    if new and "worker" not in bundle.units:
        what = f"the bundle brings {', '.join(new)} and no workers"
        yield Refusal(rule, what, "Build the bundle with the unit worker")


def _way_back_is_asked(bundle: Bundle, installed: Sequence[Described]) -> Iterator[Refusal]:
    """One host with a later release is enough: what it wrote may be there."""
    mine = bundle.release.release_id
    if later := [one.release_id for one in installed if is_earlier(mine, one.release_id)]:
        what = f"{mine} was made before {', '.join(later)}, and live data was not asked whether it may run again"
        remedy = f"ansible-playbook rollback.yml -i ENV -e rollback_to={mine} asks, and goes back where there is a way"
        yield Refusal("rollback-without-verdict", what, remedy)


def _reached_is_served(bundle: Bundle, live: Live, *, is_proven: bool) -> Iterator[Refusal]:
    """Where live data allows the way back, a process that no order has stays in the engine without its workers."""
    declared = bundle.release.declared("job_types")
    if declared is None or live.reached is None:
        return
    served, versions = set(declared["job_types"]), set(declared["variables_schema_versions"])
    reached = in_use(live.reached) if is_proven else live.reached
    for problem in dropped(reached, served, versions):
        remedy = "Keep the worker until the process is retired: cpq-oms-admin processes retire"
        yield Refusal("job-type-still-reached", problem, remedy)


def _nothing_breaks(changes: Sequence[Change]) -> Iterator[Refusal]:
    for change in changes:
        if change.forward is Level.BREAKING and change.kind in _BREAKING:
            rule, remedy = _BREAKING[change.kind]
            yield Refusal(rule, f"{change.kind} {change.name}: {change.text}", remedy)


def _contracts_wait(bundle: Bundle, installed: Sequence[Described], live: Live) -> Iterator[Refusal]:
    """A contract step may travel with a bundle only when it could be taken at once: nobody looks at the old structures."""
    if bundle.migrations is None or live.migrations is None:
        return
    running = {release.release_id for release in installed} | {worker.release_id for worker in live.workers}
    for each in bundle.migrations:
        if each.phase == "contract" and each.name not in live.migrations:
            for what, remedy in _still_needed(each, bundle, live.migrations, running):
                yield Refusal("contract-before-nobody-needs-the-old", f"{each.name}: {what}", remedy)


def _still_needed(
    contract: Migration, bundle: Bundle, applied: Mapping[str, Applied], running: set[str]
) -> Iterator[tuple[str, str]]:
    replaced_by = contract.header.replaced_by
    if replaced_by is None:
        yield (
            "does not say what replaces the structures it removes",
            "Name the expand migration in its head: -- replaced-by: NNNN_expand_…",
        )
        return
    later = "Take the file out of this bundle and release it with a later one"
    last, generation = contract.header.last_needed_by, bundle.release.generation
    if last is not None and generation is not None and generation <= last:
        yield f"generation {last} needs what it removes, and the bundle is of generation {generation}", later
    if replaced_by not in applied:
        yield f"{replaced_by}, which brings what replaces the old structures, is not applied yet", later
        return
    for each in bundle.migrations or ():
        between = each.phase == "backfill" and replaced_by < each.name < contract.name
        if (between or each.name in contract.header.needs) and each.name not in applied:
            yield f"the backfill {each.name} has not been done", "Finish it before"
    switched = applied[replaced_by].release_id
    for release_id in sorted(running):
        if not is_earlier(switched, release_id):
            what = f"{release_id} still runs, which may look at the old structures: {switched} brought {replaced_by}"
            yield what, "Release one that looks at the new structures alone on every host before"


def _backfills_come_before(bundle: Bundle, live: Live) -> Iterator[Refusal]:
    """The expand job would stop at it, when topics are changed already."""
    if live.migrations is None:
        return
    for each in bundle.migrations or ():
        if each.phase == "expand" and each.name not in live.migrations:
            for needed in each.header.needs:
                if phase_of(needed) != "expand" and needed not in live.migrations:
                    what = f"{each.name} needs {needed}, which has not been done"
                    remedy = f"Finish it before: cpq-oms-admin migrate backfill {needed}; or release the file with a later bundle"
                    yield Refusal("backfill-before-who-needs-it", what, remedy)


def _applied_is_not_edited(bundle: Bundle, live: Live) -> Iterator[Refusal]:
    for each in bundle.migrations or ():
        was = (live.migrations or {}).get(each.name)
        if was is not None and was.content_sha256 != each.content_sha256:
            what = f"{each.name} was applied with another content by {was.release_id}"
            yield Refusal("migration-edited", what, "Restore the file, and write what differs as a new migration")


def _removed_is_not_looked_for(bundle: Bundle, live: Live) -> Iterator[Refusal]:
    """What a contract migration took away no release gets back that does not know of it."""
    if bundle.migrations is None:
        return
    known = {each.name for each in bundle.migrations}
    for name, applied in (live.migrations or {}).items():
        if name not in known and phase_of(name) == "contract":
            what = f"{name}, which {applied.release_id} applied, took away what this bundle may look for"
            yield Refusal("old-is-gone", what, "Roll forward: release a bundle that has this migration")


def _path(bundle: Bundle, installed: Sequence[Described]) -> Iterator[Refusal]:
    mine = bundle.release.generation
    if mine is None:
        return
    for release in installed:
        # A release from before there were generations is of the first.
        theirs = release.generation or 1
        if abs(mine - theirs) > 1:
            between = theirs + 1 if mine > theirs else theirs - 1
            what = f"{release.release_id} is of generation {theirs}, the bundle of generation {mine}"
            yield Refusal("release-path", what, f"Release a bundle of generation {between} on every host first")


def _deprecation_window(after: Described, before: Described, changes: Sequence[Change]) -> Iterator[Refusal]:
    """An operation that was deprecated beside a later version may go when the date has passed that its clients were told."""
    today = _DATE.match(after.release_id)
    document = before.declared("openapi") or {}
    for change in changes:
        if change.kind != "api" or change.new is not None or change.forward is Level.BREAKING:
            continue
        place = [part.replace("~1", "/").replace("~0", "~") for part in change.name.split("/")[1:]]
        if len(place) != len(("paths", "path", "method")):
            continue
        sunset = document.get("paths", {}).get(place[1], {}).get(place[2], {}).get(_SUNSET)
        if sunset is None:
            what = f"api {change.name}: goes without a date that its clients were told"
            yield Refusal("deprecation-window", what, f"Deprecate it with {_SUNSET}: YYYY-MM-DD in a release before")
        elif today is not None and str(sunset) > today["date"].replace(".", "-"):
            what = f"api {change.name}: clients were told that it stays until {sunset}"
            yield Refusal("deprecation-window", what, "Keep it until then")
