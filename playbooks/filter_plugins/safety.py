"""What stands against a release that no bundle has at fault: clocks, certificates that end, units that somebody altered, data that nobody could restore."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

_DAY = 86400
_HOUR = 3600
# The alarms of roles/prometheus/files/rules/platform.yml begin at the same ages.
CERTIFICATE_DAYS = 21
BACKUP_HOURS = 13
DRILL_HOURS = 50
# A host that is behind is behind by more than it seems; one that is ahead may only have been slow to answer.
BEHIND_SECONDS = 2.0
AHEAD_SECONDS = 60.0
_LABELLED = re.compile(r"(\w+)(?:\{(.*)\})?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def release_unsafe(groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str, now: float) -> list[str]:
    """Say of each host what a release must not begin with; nothing where nothing stands against it.

    Data is asked for only where something is released already: before a first release there is none.

    Args:
        groups: hosts by group.
        hostvars: the hosts' variables.
        facts: name of the variable that holds what release_facts found on the host.
        now: seconds since the epoch.
    """
    found = {host: hostvars[host].get(facts) or {} for host in groups["all"]}
    problems = []
    for host, told in found.items():
        here = {name for name, hosts in groups.items() if host in hosts}
        reasons = (*_clock(told), *_certificates(told, now), *_units(told, here))
        problems += [f"{host}: {reason}" for reason in reasons]
    problems += _colours({host: found[host].get("serving") for host in groups.get("edge") or ()})
    if any(told.get("installed") for told in found.values()):
        # A database on the backup host itself has none: playbooks/backup.yml.
        for host in sorted({*(groups.get("backup") or ())} - {*(groups.get("db") or ())}):
            problems += [f"{host}: {reason}" for reason in _backups(found[host], now)]
    return problems


def _clock(told: Mapping[str, Any]) -> Iterator[str]:
    ahead = told.get("ahead", 0.0)
    if not -BEHIND_SECONDS <= ahead <= AHEAD_SECONDS:
        side = "ahead of" if ahead > 0 else "behind"
        yield f"clock-skew: its clock is {abs(ahead):.1f} s {side} the control machine's; set it (timedatectl), then release"


def _colours(serving: Mapping[str, str | None]) -> Iterator[str]:
    known = {edge: colour for edge, colour in serving.items() if colour}
    if len({*known.values()}) > 1:
        found = ", ".join(f"{edge} sends requests to {colour}" for edge, colour in sorted(known.items()))
        yield f"colours: {found}; ansible-playbook -i ENV playbooks/colour.yml -e colour=COLOUR"


def _certificates(told: Mapping[str, Any], now: float) -> Iterator[str]:
    for name, labels, value in _figures(told):
        left = (value - now) / _DAY
        if name == "cpq_certificate_not_after_seconds" and left < CERTIFICATE_DAYS:
            when = f"ends in {left:.0f} days" if left > 0 else f"ended {-left:.0f} days ago"
            remedy = "ansible-playbook -i ENV playbooks/rotate_certificates.yml"
            yield f"certificate-expiry: {labels.get('file')} {when}, at least {CERTIFICATE_DAYS} are wanted; {remedy}"


def _units(told: Mapping[str, Any], tiers: AbstractSet[str]) -> Iterator[str]:
    """A release writes the files of units and knows nothing of what is laid over them, nor of what it would never install here."""
    for service, state in sorted((told.get("services") or {}).items()):
        for path in state.get("drop_ins") or ():
            remedy = (
                f"see what it is for, put it into the unit's own file, and take it away: systemctl revert {service}"
            )
            yield f"unit-altered: {path} alters {service}, its hardening perhaps; {remedy}"
    for unit in sorted(set(told.get("installed") or ()) - tiers):
        yield (
            f"unit-out-of-place: {unit} is installed, and this host is not of the tier {unit}; "
            f"stop its services and remove its folder, or put the host into the group {unit}"
        )


def _backups(told: Mapping[str, Any], now: float) -> Iterator[str]:
    figures: dict[str, list[float]] = {}
    for name, _, value in _figures(told):
        figures.setdefault(name, []).append(value)

    def newest(name: str) -> float:
        return max(figures.get(name, [0.0]))

    age = (now - newest("cpq_backup_last_success_timestamp_seconds")) / _HOUR
    if age > BACKUP_HOURS:
        said = (
            f"the newest backup is {age:.0f} hours old"
            if "cpq_backup_last_success_timestamp_seconds" in figures
            else "there is no backup"
        )
        yield f"backup-stale: {said}, at most {BACKUP_HOURS} are allowed; ansible-playbook -i ENV playbooks/backup_now.yml"
    lost = now - newest("cpq_backup_archive_newest_timestamp_seconds")
    allowed = newest("cpq_recovery_point_objective_seconds")
    if lost > allowed:
        yield f"recovery-point: log came last {lost:.0f} s ago, {allowed:.0f} are declared; see why the database does not archive it"
    drilled = newest("cpq_restore_drill_finished_timestamp_seconds")
    # One that never was is a matter of readiness: an environment is not a day old before its first.
    if drilled and not newest("cpq_restore_drill_passed"):
        yield "restore-drill: the last one failed; ansible-playbook -i ENV playbooks/restore_drill.yml says why"
    elif drilled and now - drilled > DRILL_HOURS * _HOUR:
        yield f"restore-drill: the last one was {(now - drilled) / _HOUR:.0f} hours ago, one is due every day; playbooks/restore_drill.yml makes one"


def _figures(told: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str], float]]:
    for key, value in (told.get("figures") or {}).items():
        if matched := _LABELLED.fullmatch(key):
            yield matched[1], dict(_LABEL.findall(matched[2] or "")), value


class FilterModule:
    """Registers the filter."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by name."""
        return {"release_unsafe": release_unsafe}
