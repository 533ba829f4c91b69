"""What differs between a release that is live and a bundle, by kind, with what each difference means in both directions.

What it means to those who rely on an interface is judged by app.contracts.compatibility and nowhere else; job types,
processes, Redis keys, flags and migrations have no reader outside of the platform, and are judged here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.application.release_plan.described import Bundle, Described, Live, Surroundings
from app.application.release_plan.model import Change, Compatibility
from app.contracts.compatibility import interfaces
from app.contracts.compatibility.finding import Finding, Level, worst, worst_of
from app.contracts.loader import ChangeKind

_SHORT = 60
_KIND_OF: Mapping[str, ChangeKind] = {
    "openapi": "api",
    "topics": "topic",
    "events": "event",
    "variables": "variables",
    "settings": "setting",
}

Document = Mapping[str, Any]


def changes(
    bundle: Bundle, before: Described | None, live: Live, around: Surroundings, *, is_backward: bool
) -> list[Change]:
    """Every difference, by kind and name.

    Args:
        bundle: what is to be.
        before: the installed release that it is held to; None where there is none, and nobody relies on anything.
        live: what the environment answered.
        around: inventory and hosts.
        is_backward: the bundle was made before what is installed; interfaces are told as the later release changed them.
    """
    found = [*_units(bundle, around), *_migrations(bundle, live), *_processes(bundle, before, live)]
    if before is not None:
        older, newer = (bundle.release, before) if is_backward else (before, bundle.release)
        forward = interfaces.compare(
            before.interfaces, bundle.release.interfaces, is_backward=is_backward, given=around.given
        )
        backward = interfaces.compare(
            bundle.release.interfaces, before.interfaces, is_backward=is_backward, given=around.given
        )
        found += _interfaces((before, bundle.release), (older, newer), forward, backward)
        found += _topics(older, newer, forward, backward)
        found += _job_types(bundle, before, live)
        found += _redis_keys(before, bundle.release, is_backward=is_backward)
        found += _flags(before, bundle.release)
    return sorted(set(found), key=lambda each: (each.kind, each.name, each.text))


def compatibility(bundle: Bundle, befores: Sequence[Described], found: Sequence[Change]) -> tuple[Compatibility, ...]:
    """What the changes of each interface mean together, beside all installed releases."""
    if not befores:
        return ()
    told = []
    for part in interfaces.PARTS:
        own = [change for change in found if change.kind == _KIND_OF[part]]
        both = all(part in release.documents for release in (bundle.release, *befores))
        forward, backward = (worst_of(levels) if both else None for levels in _levels(own))
        told.append(Compatibility(part, len(own), forward, backward))
    return tuple(told)


def _levels(found: Sequence[Change]) -> tuple[list[Level], list[Level]]:
    return [change.forward for change in found], [change.backward for change in found]


def _units(bundle: Bundle, around: Surroundings) -> Iterator[Change]:
    for unit in sorted({*bundle.units, *around.units}):
        installed = sorted({*around.units.get(unit, ())})
        if around.hosts and not around.hosts.get(unit):
            continue  # the inventory has no host for it
        if unit not in bundle.units:
            # It stays on its hosts as it is: nothing uninstalls a deployable.
            yield _change("unit", unit, ", ".join(installed), None, text="is not in the bundle", unit=unit)
        elif installed != [bundle.release.release_id]:
            text = "is another release" if installed else "is new"
            old = ", ".join(installed) or None
            yield _change("unit", unit, old, bundle.release.release_id, text=text, unit=unit)


def _migrations(bundle: Bundle, live: Live) -> Iterator[Change]:
    if bundle.migrations is None or live.migrations is None:
        return
    for each in bundle.migrations:
        if each.name in live.migrations:
            continue
        # Expand suits the release before by rule; what the others did stays done.
        forward = Level.BREAKING if each.phase == "contract" else Level.COMPATIBLE
        backward = Level.COMPATIBLE if each.phase == "expand" else Level.BREAKING
        kind: ChangeKind = (
            "expand" if each.phase == "expand" else "backfill" if each.phase == "backfill" else "contract"
        )
        yield Change(kind, each.name, None, "pending", each.phase, "is not applied yet", forward, backward)


def _processes(bundle: Bundle, before: Described | None, live: Live) -> Iterator[Change]:
    served, versions = _serves(before)
    for process in bundle.processes:
        was = None if live.deployed is None else live.deployed.get(process.process_id, ())
        if was is None:
            if before is None or process.process_id in (before.declared("processes") or {}).get("processes", {}):
                continue  # what the engine has is not known
            was = ()
        if process.content_sha256 in was:
            continue
        unknown = [name for name in process.job_types if name not in served]
        understood = process.variables_schema_version in versions
        is_served = before is not None and not unknown and understood
        lacks = ", ".join(unknown) or f"version {process.variables_schema_version} of its variables"
        text = ("is another content of its version" if was else "is new") + (
            "" if is_served or before is None else f"; workers of the release before do not know {lacks}"
        )
        backward = Level.COMPATIBLE if is_served else Level.BREAKING
        old = was[-1][:12] if was else None
        yield _change("process", process.process_id, old, process.content_sha256[:12], text=text, backward=backward)
    yield from _default_routes(before, bundle.release)


def _default_routes(before: Described | None, after: Described) -> Iterator[Change]:
    if before is None:
        return
    had, has = ((each.declared("processes") or {}).get("routing", {}) for each in (before, after))
    for name in sorted({*had, *has}):
        was, now = had.get(name, {}).get("default"), has.get(name, {}).get("default")
        if was != now:
            text = "cases that no route takes go to another version"
            yield _change("process", f"{name} by default", was, now, text=text, forward=Level.READERS)


def _serves(release: Described | None) -> tuple[set[str], set[int]]:
    declared = (release.declared("job_types") if release is not None else None) or {}
    return set(declared.get("job_types", ())), set(declared.get("variables_schema_versions", ()))


def _interfaces(
    released: tuple[Described, Described],
    made: tuple[Described, Described],
    forward: Iterable[Finding],
    backward: Iterable[Finding],
) -> Iterator[Change]:
    """Settings differ as an inventory meets the releases, all else as the releases were made."""
    ahead, back = _by_place(forward), _by_place(backward)
    for interface, place in sorted({*ahead, *back}):
        if interface == "topics":
            continue
        one, other = ahead.get((interface, place), []), back.get((interface, place), [])
        was, now = (_found(each, interface, place) for each in (released if interface == "settings" else made))
        text = "; ".join(_text(each)[1] for each in one) or f"going back: {'; '.join(_text(each)[1] for each in other)}"
        unit = place.partition("/")[0] if interface == "settings" else None
        yield Change(
            _KIND_OF[interface],
            place,
            _shown(was),
            _shown(now),
            _category(interface, place, was, now),
            text,
            worst(one),
            worst(other),
            unit,
        )


def _topics(
    older: Described, newer: Described, forward: Iterable[Finding], backward: Iterable[Finding]
) -> Iterator[Change]:
    ahead, back = _by_place(forward), _by_place(backward)
    for file in sorted({*older.documents["topics"], *newer.documents["topics"]}):
        had, has = (each.documents["topics"].get(file) for each in (older, newer))
        name = file.removesuffix(".yml")
        if had is None or has is None:
            old, new = (None if each is None else "there" for each in (had, has))
            levels = [worst(found.get(("topics", file), [])) for found in (ahead, back)]
            yield Change("topic", name, old, new, "", "is new" if had is None else "is gone", *levels)
            continue
        for key in sorted({*had, *has} - {"purpose"}):
            if had.get(key) != has.get(key):
                levels = [worst(found.get(("topics", f"{file} {key}"), [])) for found in (ahead, back)]
                old, new = _shown(had.get(key)), _shown(has.get(key))
                yield Change("topic", f"{name} {key}", old, new, "", "is set otherwise", *levels)


def _job_types(bundle: Bundle, before: Described, live: Live) -> Iterator[Change]:
    had, has = before.declared("job_types"), bundle.release.declared("job_types")
    if had is None or has is None:
        return
    reached = {name for process in live.reached or () for name in process.job_types}
    emitted = {name for process in bundle.processes for name in process.job_types}
    for name in sorted({*had["job_types"], *has["job_types"]}):
        was, now = had["job_types"].get(name), has["job_types"].get(name)
        if was is None:
            backward = Level.BREAKING if name in emitted else Level.COMPATIBLE
            yield _change("job-type", name, None, _shown(now), text="is new", backward=backward)
        elif now is None:
            forward = Level.BREAKING if name in reached else Level.COMPATIBLE
            yield _change("job-type", name, _shown(was), None, text="is gone", forward=forward)
        else:
            for key in sorted({*was, *now}):
                if was.get(key) != now.get(key):
                    old, new = _shown(was.get(key)), _shown(now.get(key))
                    yield _change("job-type", f"{name} {key}", old, new, text="is set otherwise")


def _redis_keys(before: Described, after: Described, *, is_backward: bool) -> Iterator[Change]:
    had, has = before.declared("redis_keys"), after.declared("redis_keys")
    if had is None or has is None:
        return
    for name in sorted({*had["keys"], *has["keys"]}):
        was, now = had["keys"].get(name), has["keys"].get(name)
        if was is None or now is None:
            text = "is new" if was is None else "is gone; what is there ends by its time to live"
            yield _change("redis-key", name, was and was["pattern"], now and now["pattern"], text=text)
            continue
        for key in ("pattern", "value_version", "ttl", "max_keys_per_tenant", "when_full"):
            if was[key] == now[key]:
                continue
            # A version that was used before may meet values of another form that say they are of this one. Going back, they are its own.
            is_reused = key == "value_version" and now[key] < was[key] and not is_backward
            level = Level.BREAKING if is_reused else Level.COMPATIBLE
            text = "was used before, for another form" if is_reused else "is another; a value of another one is none"
            if key not in {"pattern", "value_version"}:
                text = "is set otherwise"
            yield _change("redis-key", f"{name} {key}", _shown(was[key]), _shown(now[key]), text=text, forward=level)


def _flags(before: Described, after: Described) -> Iterator[Change]:
    had, has = before.declared("flags"), after.declared("flags")
    if had is None or has is None:
        return
    for name in sorted({*had["flags"], *has["flags"]}):
        was, now = had["flags"].get(name), has["flags"].get(name)
        if was is None or now is None:
            text = "is new" if was is None else "is gone; the code knows it no more"
            old, new = (_shown(None if each is None else each["default"]) for each in (was, now))
            yield _change("flag", name, old, new, text=text)
            continue
        for key in ("type", "default", "approval"):
            if was.get(key) != now.get(key):
                level = {"type": Level.BREAKING, "default": Level.READERS, "approval": Level.COMPATIBLE}[key]
                old, new = _shown(was.get(key)), _shown(now.get(key))
                text = "is set otherwise"
                yield _change("flag", f"{name} {key}", old, new, text=text, forward=level, backward=level)


def _change(
    kind: ChangeKind,
    name: str,
    old: str | None,
    new: str | None,
    *,
    text: str,
    forward: Level = Level.COMPATIBLE,
    backward: Level = Level.COMPATIBLE,
    unit: str | None = None,
) -> Change:
    return Change(kind, name, old, new, "", text, forward, backward, unit)


def _by_place(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Findings of both directions meet at the same place: file and field, pointer, or unit and setting."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        field, _ = _text(finding)
        found.setdefault((finding.interface, f"{finding.at} {field}".strip()), []).append(finding)
    return found


def _text(finding: Finding) -> tuple[str, str]:
    """The field that a finding of a topic or an event begins with, and what it says of it."""
    field, colon, text = finding.text.partition(": ")
    if finding.interface in {"topics", "events"} and colon:
        return field, text
    return "", finding.text


def _found(release: Described, interface: str, place: str) -> Any:
    """What a release has at a place; None where it has nothing or the place is no plain pointer."""
    files = release.documents.get(interface, {})
    if interface == "openapi":
        return _at(files.get("openapi.yml"), [_unescaped(part) for part in place.split("/")[1:]])
    if interface == "settings":
        return _at(files.get("settings.json"), place.split("/"))
    name, _, field = place.partition(" ")
    document = files.get(name.rstrip(":"))
    if interface == "variables" or not field:
        return None if document is None else "there"
    for part in field.replace("[]", ".[]").split("."):
        document = (
            None if document is None else document.get("items") if part == "[]" else _at(document, ["properties", part])
        )
    return document


def _at(document: Any, path: Iterable[str]) -> Any:
    for part in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(part, document.get(int(part)) if part.isdigit() else None)
    return document


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _category(interface: str, place: str, was: Any, now: Any) -> str:
    if interface == "settings":
        one = now if isinstance(now, Mapping) else was if isinstance(was, Mapping) else {}
        return str(one.get("category", ""))
    if interface == "openapi":
        return (
            "response" if "/responses/" in place else "request" if place.count("/") > len(("", "paths", "path")) else ""
        )
    return ""


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "kind" in value and "category" in value:
        return f"{value['kind']}{', required' if value['required'] else ''}"
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return text if len(text) <= _SHORT else "there"
