"""What the release playbook derives from inventory and facts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parents[2]))

from app.contracts.compatibility.events import is_earlier
from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS

_DASHBOARDS = Path(__file__).resolve().parents[2] / "app/entrypoints/console/dashboards.yml"
_TIERS = {"migrate": "admin", "reconcile": "admin", "resume": "admin", "smoke": "admin", "postgresql": "db"}
# Hosts of a deployable that are away at once: of four or more, those left still carry a load of 70 %. Of fewer it is always one.
WAVE = "25%"


def release_targets(
    units: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    hostvars: Any,
    facts: str,
    released: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return where each instance of each unit shows its figures, and whether its unit is installed on that host.

    Args:
        units: the deployables, as in app/contracts/units.yml.
        groups: hosts by group; a deployable's group has its name.
        hostvars: the hosts' variables.
        facts: name of the variable that holds what release_facts found on the host.
        released: units that this release has installed since.
    """
    return [
        {
            "unit": unit,
            "instance": instance,
            "host": host,
            "url": f"http://{hostvars[host]['ansible_host']}:{port}/metrics",
            "installed": unit in hostvars[host][facts]["installed"] or unit in released,
        }
        for unit, declared in units.items()
        for host in groups.get(unit, ())
        for instance, port in _instances(unit, declared)
    ]


def release_contracts(groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str) -> dict[str, Any]:
    """Return the files of interfaces, by interface and name, of every release that is installed on some host."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for host in groups["all"]:
        for release_id, interfaces in hostvars[host].get(facts, {}).get("contracts", {}).items():
            for interface, files in interfaces.items():
                found.setdefault(release_id, {}).setdefault(interface, {}).update(files)
    return found


def release_units(groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str) -> dict[str, list[str]]:
    """Return which releases of each unit are installed on some host; an installation that is none has no release id."""
    found: dict[str, set[str]] = {}
    for host in groups["all"]:
        for unit, release_id in hostvars[host].get(facts, {}).get("installed", {}).items():
            found.setdefault(unit, set()).add(release_id or "unknown")
    return {unit: sorted(releases) for unit, releases in sorted(found.items())}


def release_installed(
    groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str, units: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return which release of its deployables each host of their groups runs, empty for none: evidence of what was deployed where."""
    found: dict[str, dict[str, str]] = {}
    for unit in units:
        for host in groups.get(unit, ()):
            installed = hostvars[host].get(facts, {}).get("installed", {})
            found.setdefault(host, {})[unit] = installed.get(unit) or ""
    return dict(sorted(found.items()))


def release_plan_input(groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str) -> dict[str, Any]:
    """Return what a plan stands on beside the environment's own answer: the input of `cpq-oms-admin release plan`."""
    return {
        "installed": release_contracts(groups, hostvars, facts),
        "units": release_units(groups, hostvars, facts),
        "given": release_given_settings(groups, hostvars),
        "hosts": {group: [host for host in hosts if host != "localhost"] for group, hosts in groups.items()},
        "differs": release_hosts_that_differ(groups, hostvars),
    }


def release_former(runs: Iterable[Mapping[str, Any]], units: Mapping[str, Sequence[str]]) -> str:
    """Return the release of the newest run that succeeded and that was made before what runs now; empty where there is none.

    The operators' commands do not count: a release that was refused by its pre-checks has replaced them alone.

    Args:
        runs: the newest first, as `cpq-oms-admin release list` gives them.
        units: the releases that are installed of each unit.
    """
    running = {release_id for unit, releases in units.items() if unit != "admin" for release_id in releases}
    before = (
        run["release"]
        for run in runs
        if run["state"] == "succeeded" and any(is_earlier(run["release"], release_id) for release_id in running)
    )
    return next(before, "")


def release_described(bundle: str) -> dict[str, Any]:
    """Return what a bundle says of itself: input of `cpq-oms-admin release verdict`, which has no bundle at hand."""
    folder = Path(bundle)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {
        part: {path.name: path.read_text(encoding="utf-8") for path in (folder / "contracts").glob(pattern)}
        for part, pattern in {**PARTS, **DECLARATIONS}.items()
    }
    migrations = sorted(
        path.stem for path in (folder / "migrations").glob("[0-9]*.sql") if not path.name.endswith(".rollback.sql")
    )
    return {
        "release_id": manifest["release_id"],
        "units": sorted(manifest["units"]),
        "files": files,
        # A bundle from before they were in it says nothing of them.
        "migrations": migrations or None,
    }


def release_topics(groups: Mapping[str, Sequence[str]], hostvars: Any, facts: str) -> list[str]:
    """Name the topics that installed units write and read.

    The operators' commands are left out: a release installs them before it provides topics, and one that ended in between has
    made none yet.
    """
    found: set[str] = set()
    for host in groups["all"]:
        seen = hostvars[host].get(facts, {})
        for unit, release_id in seen.get("installed", {}).items():
            if unit != "admin":
                found |= {*seen["contracts"].get(release_id, {}).get("topics", {})}
    return sorted(name.removesuffix(".yml") for name in found)


def given_settings(services: Mapping[str, Any], units: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return which settings a host's variables give to each of its units, by name.

    Of credentials those that are declared: values are not looked at, and need no vault.

    Args:
        services: what app_service is given, by unit.
        units: the deployables, as in app/contracts/units.yml.
    """
    given = {}
    for unit, service in services.items():
        instances = [instance.get("environment", {}) for instance in service.get("instances", {}).values()]
        names = {str(name) for environment in (service["environment"], *instances) for name in environment}
        given[unit] = sorted({*names, *units[unit].get("credentials", ())})
    return given


def release_given_settings(groups: Mapping[str, Sequence[str]], hostvars: Any) -> dict[str, list[str]]:
    """Bring together what `given_settings` found on each host."""
    return {unit: names for host in groups["all"] for unit, names in hostvars[host].get("release_given", {}).items()}


def release_differs(groups: Mapping[str, Sequence[str]], hostvars: Any, before: str, after: str) -> list[str]:
    """Name what is installed or running otherwise than before, on any host."""
    return [
        f"{host}: {name}"
        for host in groups["all"]
        for kind in ("installed", "services")
        for name in sorted({*hostvars[host][before][kind], *hostvars[host][after][kind]})
        if hostvars[host][before][kind].get(name) != hostvars[host][after][kind].get(name)
        and not name.endswith((".timer", ".target", ".slice"))
        and not name.startswith(
            (
                "cpq-oms-admin@",
                "cpq-oms-drift",
                "cpq-oms-migrate",
                "cpq-oms-reconcile",
                "cpq-oms-resume",
                "cpq-oms-smoke",
            )
        )
    ]


def release_left_drained(groups: Mapping[str, Sequence[str]], hostvars: Any) -> list[str]:
    """Name the hosts that some edge sent no new requests when the release began."""
    return sorted(
        {host for edge in groups["all"] for host in hostvars[edge].get("release_before", {}).get("drained", ())}
    )


def release_hosts_that_differ(groups: Mapping[str, Sequence[str]], hostvars: Any) -> list[str]:
    """Name the hosts where the comparison found an artifact to install or a unit to change, or that a killed release left drained."""
    drained = release_left_drained(groups, hostvars)

    def differs(variables: Any) -> bool:
        release, service = (variables.get(f"{role}_comparison") or {} for role in ("app_release", "app_service"))
        return bool(release.get("due") or release.get("removed") or service.get("diff"))

    return [host for host in groups["all"] if host in drained or differs(hostvars[host])]


def release_canary(
    groups: Mapping[str, Sequence[str]], hostvars: Any, cohort: str, declared: Sequence[str]
) -> dict[str, Any]:
    """Return which hosts of the API meet a release before the others, and the release that these run meanwhile: hosts, former.

    No host where the inventory declares no cohort with hosts of its own, where the others do not serve yet, or where all of them have it.
    """
    others = [host for host in groups.get("api", ()) if host not in declared]
    former = [(hostvars[host].get("release_before") or {}).get("installed", {}).get("api") for host in others]
    due = {*others} & {*release_hosts_that_differ(groups, hostvars)}
    if not cohort or not declared or not due or not all(former):
        return {"hosts": [], "former": ""}
    return {"hosts": [host for host in groups["api"] if host in declared], "former": former[0]}


def release_colours(groups: Mapping[str, Sequence[str]], hostvars: Any) -> dict[str, Any]:
    """Return which hosts of the API this release brings before it sends them every request, and which after that: to, standby, former.

    `to` is the colour that gets the requests then, empty where nothing is to be switched: the hosts that serve have the release already.
    All is empty where the API's hosts are not of two colours, or where no edge knows of them.
    """
    hosts = {host: hostvars[host].get("cpq_colour", "none") for host in groups.get("api", ())}
    # Where edges differ, a release that is to change something does not begin (safety.py).
    [serving, *_] = [
        seen["serving"]
        for edge in groups.get("edge", ())
        if (seen := hostvars[edge].get("release_before") or {}).get("serving")
    ] or [""]
    if not serving or {*hosts.values()} != {"blue", "green"}:
        return {"to": "", "standby": [], "former": []}
    serve = [host for host, colour in hosts.items() if colour == serving]
    stand_by = [host for host in hosts if host not in serve]
    if {*serve} & {*release_hosts_that_differ(groups, hostvars)}:
        return {"to": hosts[stand_by[0]], "standby": stand_by, "former": serve}
    return {"to": "", "standby": [], "former": stand_by}


def release_timers(
    hosts: Sequence[str], timers: Sequence[str], hostvars: Any, facts: str, states: Sequence[str]
) -> list[str]:
    """Return host/timer of those timers that are in one of the states on those hosts; unknown where there is none."""
    return [
        f"{host}/{timer}"
        for host in hosts
        for timer in timers
        if hostvars[host][facts]["services"].get(timer, {}).get("state", "unknown") in states
    ]


def release_places(hosts: Sequence[str], hostvars: Any, unit: str, release_id: str) -> list[str]:
    """Return the options of `release step` that say what a tier's hosts ran before, and run now."""
    options = []
    for host in hosts:
        before = (hostvars[host].get("release_before") or {}).get("installed", {}).get(unit) or "-"
        options += ["--on", f"{host} {before} {release_id}"]
    return options


def release_waves(hosts: Sequence[str], hostvars: Any, unit: str) -> list[int | str]:
    """Return in which waves the hosts of a deployable are brought to their release, for `serial`.

    Where it serves, one host goes alone and shows whether the release works, and then never so many at once that the others could not carry
    what is there. Where no host has it, nobody waits for anybody.
    """
    # Who only lists the plays has no variables of hosts.
    found = [(hostvars.get(host) or {}).get("release_before") or {} for host in hosts]
    serves = any(unit in each.get("installed", {}) for each in found)
    return [1, WAVE] if serves else ["100%"]


def release_panels(wanted: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return panels of the console by the names of their dashboard and their titles: title, unit, query, legend.

    Raises:
        ValueError: the console has no such panel.
    """
    dashboards = yaml.safe_load(_DASHBOARDS.read_text(encoding="utf-8"))["dashboards"]
    known = {(one["name"], panel["title"]): panel for one in dashboards for panel in one["panels"]}
    named = [(dashboard, title) for dashboard, titles in wanted.items() for title in titles]
    if unknown := [f"{dashboard}: {title}" for dashboard, title in named if (dashboard, title) not in known]:
        raise ValueError(f"release_figures: {'; '.join(unknown)}: no such panel in {_DASHBOARDS.name}")
    return [{"legend": "", **known[name]} for name in named]


def release_tier(unit: str) -> str:
    """Return the host group where a systemd unit runs."""
    word = re.split(r"[@.*]", unit.removeprefix("cpq-oms-"))[0]
    return _TIERS.get(word, word)


def _instances(unit: str, declared: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if declared.get("metrics_port"):
        yield unit, declared["metrics_port"]
    for name, instance in (declared.get("instances") or {}).items():
        yield f"{unit}@{name}", instance["metrics_port"]


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "release_canary": release_canary,
            "release_colours": release_colours,
            "release_contracts": release_contracts,
            "given_settings": given_settings,
            "release_given_settings": release_given_settings,
            "release_described": release_described,
            "release_differs": release_differs,
            "release_former": release_former,
            "release_installed": release_installed,
            "release_left_drained": release_left_drained,
            "release_plan_input": release_plan_input,
            "release_hosts_that_differ": release_hosts_that_differ,
            "release_targets": release_targets,
            "release_panels": release_panels,
            "release_places": release_places,
            "release_tier": release_tier,
            "release_timers": release_timers,
            "release_topics": release_topics,
            "release_units": release_units,
            "release_waves": release_waves,
        }
