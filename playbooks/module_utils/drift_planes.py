"""The planes of an environment: what is declared of each, what of the live differs, and what two environments differ in.

A plane is texts by item, for each host that tells of it. Neither side is changed here and nothing is looked at: hosts and the
operators' command have done that.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Items = Mapping[str, str]
Finding = dict[str, str]

ABSENT = "absent"
LINES_SHOWN = 4
# What is compared, and what brings back an item that differs. docs/drift.md says who looks and what declares each.
PLANES = {
    "artifacts": "a release of this bundle",
    "unit-files": "a release of this bundle",
    "settings": "a release of this bundle",
    "credentials": "a release of this bundle",
    "units": "a release of this bundle for the platform's units; else systemctl, after a look at journalctl -u UNIT",
    "sysctl": "playbooks/base.yml, then sysctl --system",
    "packages": "dpkg --configure --pending, then playbooks/site.yml; other versions: apt upgrade on the hosts that are behind",
    "nftables": "playbooks/firewall.yml; a foreign table: nft delete TABLE",
    "certificates": "playbooks/certificates.yml",
    "postgresql-settings": "playbooks/postgresql.yml; ALTER SYSTEM RESET or ALTER DATABASE ... RESET for what was set past the file",
    "postgresql-roles": "playbooks/postgresql.yml",
    "postgresql-grants": "cpq-oms-admin db grants apply",
    "postgresql-schema": "a migration that makes it so, or the statement that takes it back",
    "postgresql-indexes": "a migration that makes it so, or the statement that takes it back; REINDEX INDEX CONCURRENTLY for an invalid one",
    "migrations": "a release of this bundle; where content differs, the file that was applied",
    "kafka-topics": "cpq-oms-admin topics apply; it never deletes and never shrinks",
    "kafka-access": "cpq-oms-admin topics apply",
    "kafka-groups": "start the consumers; an undeclared group: stop who reads, or declare it in the topic's file",
    "redis-policy": "playbooks/redis.yml",
    "redis-users": "playbooks/redis.yml",
    "redis-keys": "find who writes them; DEL loses nothing but time",
    "bpmn": "cpq-oms-admin bpmn deploy",
    "job-types": "release or start the workers that serve them, stop the others",
    "flags": "cpq-oms-admin flags apply, or flags set with a reason",
    "catalog": "publish a version; a published one never changes",
}
# Of a role's comparison, which plane a path belongs to.
PATHS = (
    ("/etc/systemd/system/", "unit-files"),
    ("/etc/cpq-oms/credentials", "credentials"),
    ("/etc/cpq-oms/", "settings"),
)
# Services that are not units of the platform and start with their host.
SERVICES = {"redis": "redis-server.service", "kafka": "kafka.service", "zeebe": "zeebe.service"}
# Planes in which an environment's own name is part of what is there.
NAMED_AFTER = {"certificates", "redis-keys"}
# What is wrong with a unit, and how it is to be.
STATES = {"changed since it was loaded": "loaded as on disk", "stopped": "started", "failed": "not failed"}
OWN_COMPARISON = "cpq-oms-drift.service"
SIZES = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}


def finding(plane: str, host: str, item: str, expected: str, found: str) -> Finding:
    """Return one difference with its remedy."""
    return {"plane": plane, "host": host, "item": item, "expected": expected, "found": found, "remedy": PLANES[plane]}


def compare(
    plane: str, host: str, declared: Items, live: Items, is_ours: Callable[[str], bool] = lambda _: True
) -> Iterator[Finding]:
    """Yield every item that is not as declared; live ones that nobody declared only where they are ours to judge."""
    for item in sorted({*declared, *filter(is_ours, live)}):
        if declared.get(item) != live.get(item):
            yield finding(plane, host, item, declared.get(item, ABSENT), live.get(item, ABSENT))


def judge(host: str, declared: Mapping[str, Any], live: Mapping[str, Items]) -> list[Finding]:
    """Hold what a host told of itself to what is declared for it.

    Args:
        host: its name.
        declared: by plane, what `declarations` returns.
        live: states by item, by plane; a plane that was not seen is not there.
    """
    found: list[Finding] = []
    for plane, rule in JUDGES.items():
        if plane in live and plane in declared:
            found += rule(host, declared[plane], live[plane])
    return found


def _sysctl(host: str, declared: Items, live: Items) -> Iterator[Finding]:
    return compare("sysctl", host, declared, live)


def _packages(host: str, declared: Sequence[str], live: Items) -> Iterator[Finding]:
    for name in sorted({*declared, *live}):
        state = live.get(name, ABSENT)
        if " " in state or state == ABSENT:
            yield finding("packages", host, name, "installed", state)


def _units(host: str, declared: Mapping[str, Sequence[str]], live: Items) -> Iterator[Finding]:
    for item, state in sorted(live.items()):
        words = state.split(", ")
        if item.startswith("drop-in "):
            path = item.removeprefix("drop-in ")
            if not any(path.endswith(own) for own in declared["drop_ins"]):
                yield finding("units", host, item, "no such drop-in", "there")
        elif item in declared["services"] and words[0] != "enabled":
            yield finding("units", host, item, "enabled", words[0])
        for wrong, expected in STATES.items():
            # The host's own comparison fails by what it finds, which is told here by its name.
            if wrong in words and (item, wrong) != (OWN_COMPARISON, "failed"):
                yield finding("units", host, item, expected, wrong)
    for name in declared["services"]:
        if name not in live:
            yield finding("units", host, name, "enabled", ABSENT)


def _nftables(host: str, declared: Sequence[str], live: Items) -> Iterator[Finding]:
    for table in sorted({*declared, *live}):
        if (table in declared) != (table in live):
            yield finding("nftables", host, table, "there" if table in declared else ABSENT, live.get(table, ABSENT))


def _certificates(host: str, declared: Sequence[str], live: Items) -> Iterator[Finding]:
    for name in sorted({*declared, *live}):
        if (name in declared) != (name in live):
            yield finding("certificates", host, name, "there" if name in declared else ABSENT, live.get(name, ABSENT))


def _settings(host: str, declared: Items, live: Items) -> Iterator[Finding]:
    past_the_file = re.compile("^(ALTER|waits for a restart)")
    return compare("postgresql-settings", host, declared, live, lambda item: bool(past_the_file.match(item)))


def _roles(host: str, declared: Items, live: Items) -> Iterator[Finding]:
    return compare("postgresql-roles", host, declared, live, lambda item: item != "postgres")


def _policy(host: str, declared: Items, live: Items) -> Iterator[Finding]:
    return compare("redis-policy", host, declared, live, lambda _: False)


JUDGES: Mapping[str, Callable[[str, Any, Items], Iterable[Finding]]] = {
    "sysctl": _sysctl,
    "packages": _packages,
    "units": _units,
    "nftables": _nftables,
    "certificates": _certificates,
    "postgresql-settings": _settings,
    "postgresql-roles": _roles,
    "redis-policy": _policy,
}


def role_text(role: Mapping[str, Any]) -> str:
    """Return a declared login role as the operators' command describes a live one."""
    settings = ", ".join(sorted(f"{name}={value}" for name, value in role.get("settings", {}).items()))
    member_of = ", ".join(sorted(role.get("member_of", [])))
    parts = [
        f"connections {role.get('connection_limit', -1)}",
        settings,
        f"member of {member_of}" if member_of else "",
        "may replicate" if role.get("may_replicate") else "",
    ]
    return "; ".join(filter(None, parts))


def setting_text(value: Any) -> str:
    """Return a declared setting as the server shows it."""
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def policy_texts(max_memory: str, eviction: str) -> dict[str, str]:
    """Return the declared limits of Redis; a share of the host's memory is no number that could be compared."""
    size = re.fullmatch("([0-9]+)(kb|mb|gb)", max_memory)
    memory = {"maxmemory": str(int(size[1]) * SIZES[size[2]])} if size else {}
    return {"maxmemory-policy": eviction, **memory}


def of_role(host: str, plane: str, result: Mapping[str, Any]) -> Iterator[Finding]:
    """Turn the difference that a role would make into findings; of long texts the first lines that differ."""
    differences = result.get("diff") or []
    for one in [differences] if isinstance(differences, Mapping) else differences:
        before, after = str(one.get("before", "")).splitlines(), str(one.get("after", "")).splitlines()
        if before == after and result.get("changed") is False:
            continue
        item = str(one.get("after_header") or one.get("before_header") or "state")
        of_path = next((name for start, name in PATHS if item.startswith(start)), "units")
        lines = list(difflib.ndiff(before, after))
        yield finding(
            of_path if plane == "unit-files" else plane, host, item, _excerpt(lines, "+ "), _excerpt(lines, "- ")
        )


def _excerpt(lines: Sequence[str], mark: str) -> str:
    marked = [line[2:].strip() for line in lines if line.startswith(mark)]
    more = f" (and {len(marked) - LINES_SHOWN} lines)" if len(marked) > LINES_SHOWN else ""
    return ("; ".join(marked[:LINES_SHOWN]) or ABSENT) + more


def versions_within(live: Mapping[str, Mapping[str, Items]]) -> list[Finding]:
    """Find packages that hosts of one environment have in several versions; the highest is taken for the right one."""
    versions: dict[str, dict[str, str]] = {}
    for host, planes in live.items():
        for name, state in planes.get("packages", {}).items():
            versions.setdefault(name, {})[host] = state
    found = []
    for name, hosts in versions.items():
        newest = max(hosts.values(), key=_parts)
        found += [
            finding("packages", host, name, f"{newest}, as on other hosts", state)
            for host, state in hosts.items()
            if state != newest and " " not in state
        ]
    return found


def _parts(version: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall("[0-9]+|[^0-9]+", version)]


def between(
    one: Mapping[str, Any], other: Mapping[str, Any], tolerances: Sequence[Mapping[str, str]]
) -> tuple[list[Finding], list[Finding]]:
    """Compare two environments by what was seen of each, whatever hosts it was seen on.

    Args:
        one: the recording of the environment that is asked about.
        other: the one that it is held to.
        tolerances: what may differ, each with plane, item (a regular expression for the whole of it), of (state, presence or any)
            and reason.

    Returns:
        what differs, and what differs and may; the latter with the reason in place of a remedy.
    """
    names = f"{one['environment']} against {other['environment']}"
    mine, theirs = _by_plane(one), _by_plane(other)
    found, tolerated = [], []
    for plane in PLANES:
        if plane not in mine or plane not in theirs:
            continue
        for difference in compare(plane, names, theirs[plane], mine[plane]):
            reason = _reason(tolerances, difference)
            if reason is None:
                difference["remedy"] = (
                    "make both alike, or declare it in inventories/drift_tolerances.yml with its reason"
                )
                found.append(difference)
            else:
                tolerated.append(difference | {"remedy": reason})
    return found, tolerated


def unseen_between(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name the planes that only one of two environments was seen in, or none."""
    mine, theirs = _by_plane(one), _by_plane(other)
    names = f"{one['environment']} against {other['environment']}"
    return [
        {"host": names, "plane": plane, "reason": f"not seen in {which['environment']}"}
        for which, planes in ((one, mine), (other, theirs))
        for plane in sorted({*mine, *theirs} - {*planes})
    ]


def _by_plane(recording: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return of every plane each item's state; of several hosts' different ones all, in an order that says nothing."""
    seen: dict[str, dict[str, set[str]]] = {}
    for planes in recording["hosts"].values():
        for plane, items in planes.items():
            for item, state in items.items():
                seen.setdefault(plane, {}).setdefault(item, set()).add(state)
            seen.setdefault(plane, {})
    own = re.compile(rf"\b{re.escape(recording['environment'])}\b")
    found = {
        plane: {item: " or ".join(sorted(states)) for item, states in items.items()} for plane, items in seen.items()
    }
    for plane in NAMED_AFTER & {*found}:
        found[plane] = {own.sub("ENV", item): own.sub("ENV", state) for item, state in found[plane].items()}
    return found


def _reason(tolerances: Sequence[Mapping[str, str]], difference: Finding) -> str | None:
    of = "presence" if ABSENT in (difference["expected"], difference["found"]) else "state"
    for one in tolerances:
        if (
            one["plane"] == difference["plane"]
            and one["of"] in (of, "any")
            and re.fullmatch(one["item"], difference["item"])
        ):
            return one["reason"]
    return None
