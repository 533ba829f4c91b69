"""What is looked at for an item of readiness.yml beside files, evidence and attestations: a function for each name that an item gives.

Each judges what was seen, and says what was expected and what was found; where it could not be seen, why.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.application.readiness import Facts, Found, MalformedError, Probe
from app.contracts.compatibility.finding import Level
from app.contracts.loader import ReadinessItem

DASHBOARDS = "app/entrypoints/console/dashboards.yml"
RULES = "roles/prometheus/files/rules/"
RULE_TESTS = "roles/prometheus/files/rule_tests/"
CHANGELOG = "CHANGELOG.md"
RUNBOOK = "docs/release.md"
# One of our figures where a question to Prometheus reads it, and not a label's name or value.
_FIGURE = re.compile(r"\bcpq_\w+(?=[{\[) ]|$)")


def artifacts(item: ReadinessItem, facts: Facts) -> Found:
    """Find each deployable whose archive the item names, with the version that it was built as."""
    units = {about["file"]: (unit, about) for unit, about in facts.manifest["units"].items()}
    problems, shown = [], {}
    for file in (pattern for pattern in item.files if pattern.endswith(".tar")):
        unit, about = units.get(file, ("", {}))
        if not unit:
            problems.append(f"units: expected a deployable with the archive {file}, the manifest has none")
        elif not re.fullmatch(r"\d\S*", about["version"]):
            problems.append(f"units: {unit}: version: expected a number, found {about['version']!r}")
        shown[file] = about.get("version")
    return Found(", ".join(f"{file} {version}" for file, version in shown.items()), shown, tuple(problems))


def schemas(_: ReadinessItem, facts: Facts) -> Found:
    """Find the API's version, and the schema of variables that each process names."""
    version = (facts.document("contracts/openapi.yml").get("info") or {}).get("version")
    problems = [] if version else ["contracts/openapi.yml: info.version: expected one, found none"]
    wanted = {about["variables_schema"] for about in _processes(facts).values()}
    names = [*facts.listed("contracts/events/*"), *facts.listed("contracts/variables/*")]
    lacking = sorted(name for name in wanted if f"contracts/variables/{name}" not in names)
    problems += [f"contracts/variables/{name}: processes.yml names it, the manifest does not" for name in lacking]
    for name in names:
        facts.document(name)
    return Found(f"API {version}, {len(names)} schemas", {"api": version, "schemas": names}, tuple(problems))


def migrations(_: ReadinessItem, facts: Facts) -> Found:
    """Hold the ledger to the files, and each migration to a script that verifies it."""
    listed = _migrations(facts)
    ledger = dict(line.split(maxsplit=1) for line in facts.document("migrations/ledger.txt").splitlines() if line)
    verified = {name.rpartition("/")[2].removesuffix(".sql") for name in facts.listed("migrations/verify/*")}
    problems = [f"migrations/ledger.txt: {name}: no such file" for name in sorted(ledger.keys() - listed.keys())]
    for name, sha256 in listed.items():
        if ledger.get(name) != sha256:
            problems.append(
                f"migrations/ledger.txt: {name}: expected {sha256[:12]}, found {ledger.get(name, '-')[:12]}"
            )
        if name not in verified:
            problems.append(f"migrations/verify/{name}.sql: expected a script that verifies it, found none")
    return Found(f"{len(listed)} migrations in the ledger, each verified", {"ledger": ledger}, tuple(problems))


def way_back(_: ReadinessItem, facts: Facts) -> Found:
    """Find the script that takes each migration back, and the plan of this release with its verdict and every line of its page filled."""
    scripts = {name.removesuffix(".rollback.sql") for name in facts.listed("migrations/*.rollback.sql")}
    lacking = [name for name in _migrations(facts) if f"migrations/{name}" not in scripts]
    problems = [f"migrations/{name}.rollback.sql: expected it, the manifest lists none" for name in lacking]
    plan = facts.sight("plan")
    if plan.unseen:
        return Found("", {}, tuple(problems), plan.unseen)
    verdict, page = plan.data.get("verdict") or {}, plan.data.get("template") or {}
    problems += [f"the plan refuses: {problem}" for problem in plan.problems]
    if not verdict.get("way") or not page:
        problems.append("plan: expected a verdict and the page of the way back, found none")
    problems += [f"plan: {line}: expected it filled, found nothing" for line, text in page.items() if not text]
    summary = f"way back: {verdict.get('way')}; {len(scripts)} scripts"
    return Found(summary, {"verdict": verdict, "page": page, "scripts": sorted(scripts)}, tuple(problems))


def topics(_: ReadinessItem, facts: Facts) -> Found:
    """Find each topic's schema in the bundle, and the cluster as installed releases declare it; what is new comes with the release."""
    names = [*facts.listed("contracts/topics/*")]
    events = {name.rpartition("/")[2] for name in facts.listed("contracts/events/*")}
    schemas_by_topic = {name: facts.document(name).get("schema") for name in names}
    problems = [
        f"{name}: schema: {schema} is not in contracts/events"
        for name, schema in schemas_by_topic.items()
        if schema and schema not in events
    ]
    if facts.is_first:
        return Found(f"{len(names)} topics come with the first release", schemas_by_topic, tuple(problems))
    live = facts.sight("topics")
    if live.unseen:
        return Found("", {}, tuple(problems), live.unseen)
    differences = [*live.problems, *live.data.get("changes", ())]
    problems += [f"the cluster: expected no difference to what is declared, found: {line}" for line in differences]
    shown = {"topics": schemas_by_topic, "differences": differences}
    return Found(f"{len(names)} topics, the cluster differs in none", shown, tuple(problems))


def processes(_: ReadinessItem, facts: Facts) -> Found:
    """Find each process in the bundle, and the engine without another content of it."""
    declared = _processes(facts)
    files = {name.removeprefix("bpmn/"): sha256 for name, sha256 in facts.listed("bpmn/*").items()}
    problems = [
        f"bpmn/{about['file']}: processes.yml names it, the manifest does not"
        for about in declared.values()
        if about["file"] not in files
    ]
    live = facts.sight("live")
    if live.unseen and not facts.is_first:
        return Found("", {}, tuple(problems), live.unseen)
    deployed: Mapping[str, Any] = live.data.get("deployed") or {}
    states = {}
    for name, about in declared.items():
        contents, sha256 = deployed.get(name, ()), files.get(about["file"], "")
        states[name] = "deployed" if sha256 in contents else "ready"
        if contents and sha256 and sha256 not in contents:
            found = ", ".join(each[:12] for each in contents)
            problems.append(f"{name}: expected its content {sha256[:12]} in the engine or none, found {found}")
    summary = ", ".join(f"{name} {state}" for name, state in states.items())
    return Found(summary, {"processes": states, "files": files}, tuple(problems))


def job_types(_: ReadinessItem, facts: Facts) -> Found:
    """Take the word of `bpmn check`: what the bundle's processes and those that orders can still reach ask for has workers."""
    facts.document("contracts/job_types.yml")
    live, check = facts.sight("live"), facts.sight("job-types")
    unseen = check.unseen or ("" if facts.is_first else live.unseen)
    served = check.data.get("bundled", [])
    reached = [each["process_id"] for each in check.data.get("reached", ())]
    summary = f"{len(served)} job types for {len(check.data.get('processes', ()))} processes and {len(reached)} that orders reach"
    return Found(summary, {"served": served, "reached": reached}, check.problems, unseen)


def redis_keys(_: ReadinessItem, facts: Facts) -> Found:
    """Find every key of which the plan says that it changes named among the newest changes, and no version used a second time."""
    plan = facts.sight("plan")
    if plan.unseen:
        return Found("", {}, (), plan.unseen)
    changes = [change for change in plan.data.get("changes", ()) if change["kind"] == "redis-key"]
    problems = [f"{each['name']}: {each['text']}" for each in changes if each["forward"] == Level.BREAKING]
    source = facts.sight("source")
    if changes and source.unseen:
        return Found("", {}, tuple(problems), source.unseen)
    newest = "\n".join(source.data.get("files", {}).get(CHANGELOG, "").split("\n## ")[:2])
    problems += [
        f"{name}: expected it named in the newest part of {CHANGELOG}, found nothing"
        for name in sorted({change["name"].partition(" ")[0] for change in changes})
        if not re.search(rf"\b{re.escape(name)}\b", newest)
    ]
    told = [f"{each['name']}: {each['text']}" for each in changes]
    return Found("; ".join(told) or "no key changes", {"changes": told}, tuple(problems))


def configuration(_: ReadinessItem, facts: Facts) -> Found:
    """Take the word of the schema of inventories and of the bundle's settings."""
    for name in ("settings.json", "feature_flags.yml", "release_path.yml"):
        facts.document(f"contracts/{name}")
    return _by_word("the inventory suits its schema and the settings", facts, "configuration")


def secrets(_: ReadinessItem, facts: Facts) -> Found:
    """Take the word of who compared the vault with what the inventory takes from it, and looked for a rotation that was begun."""
    return _by_word("the vault is whole, no rotation is under way", facts, "secrets")


def dashboards(_: ReadinessItem, facts: Facts) -> Found:
    """Hold every panel to figures that the commit's code shows."""
    source = facts.sight("source")
    if source.unseen:
        return Found("", {}, (), source.unseen)
    declared = source.data.get("documents", {}).get(DASHBOARDS) or {}
    panels = [(board["name"], panel) for board in declared.get("dashboards", ()) for panel in board["panels"]]
    if not panels:
        raise MalformedError(f"{DASHBOARDS}: expected panels, found none")
    problems = [
        f"{DASHBOARDS}: {board}: {panel['title']}: nothing shows {name}"
        for board, panel in panels
        for name in _unknown([panel["query"]], source.data)
    ]
    return Found(f"{len(panels)} panels", {"sha256": _sha256(source.data, DASHBOARDS)}, tuple(problems))


def alerts(_: ReadinessItem, facts: Facts) -> Found:
    """Hold every alert to figures that the commit's code shows, to its two tests, and to words for who is woken."""
    source = facts.sight("source")
    if source.unseen:
        return Found("", {}, (), source.unseen)
    documents = source.data.get("documents", {})
    names = sorted(name for name in documents if name.startswith(RULES))
    rules = [(name, rule) for name in names for group in documents[name]["groups"] for rule in group["rules"]]
    problems = [
        f"{name}: nothing shows {figure}" for name, rule in rules for figure in _unknown([rule["expr"]], source.data)
    ]
    found = [(name, rule) for name, rule in rules if "alert" in rule]
    if not found:
        raise MalformedError(f"{RULES}: expected alerts, found none")
    for name, rule in found:
        test = RULE_TESTS + name.removeprefix(RULES)
        tested = {case["name"] for case in (documents.get(test) or {}).get("tests", ())}
        wanted = (f"{rule['alert']} is raised", f"{rule['alert']} stays quiet")
        problems += [f"{test}: expected the test {case!r}, found none" for case in wanted if case not in tested]
        if {"summary", "description"} - rule.get("annotations", {}).keys():
            problems.append(f"{name}: {rule['alert']}: annotations: expected summary and description")
    shown = {name: _sha256(source.data, name) for name in names}
    return Found(f"{len(found)} alerts, each with its two tests", shown, tuple(problems))


def runbook(_: ReadinessItem, facts: Facts) -> Found:
    """Find the bundle's page to be the commit's, with every command of the checkout's root in it."""
    source = facts.sight("source")
    if source.unseen:
        return Found("", {}, (), source.unseen)
    mine, committed = next(iter(facts.listed("runbook.md").values()), ""), _sha256(source.data, RUNBOOK)
    problems = (
        []
        if mine == committed
        else [f"runbook.md: expected {RUNBOOK} of the commit, {committed[:12]}, found {mine[:12]}"]
    )
    commands = sorted(source.data.get("playbooks", ()))
    problems += [f"runbook.md: expected a word of {name}, found none" for name in commands if name not in facts.runbook]
    return Found(f"it names {', '.join(commands)}", {"sha256": mine, "playbooks": commands}, tuple(problems))


PROBES: Mapping[str, Probe] = {
    "artifacts": artifacts,
    "schemas": schemas,
    "migrations": migrations,
    "way-back": way_back,
    "topics": topics,
    "processes": processes,
    "job-types": job_types,
    "redis-keys": redis_keys,
    "configuration": configuration,
    "secrets": secrets,
    "dashboards": dashboards,
    "alerts": alerts,
    "runbook": runbook,
}


def _by_word(summary: str, facts: Facts, name: str) -> Found:
    sight = facts.sight(name)
    return Found(summary, dict(sight.data), sight.problems, sight.unseen)


def _processes(facts: Facts) -> Mapping[str, Any]:
    declared: Mapping[str, Any] = facts.document("contracts/processes.yml")["processes"]
    return declared


def _migrations(facts: Facts) -> dict[str, str]:
    """Return the SHA-256 of each migration that the manifest lists, by its name."""
    return {
        name.removeprefix("migrations/").removesuffix(".sql"): sha256
        for name, sha256 in facts.listed("migrations/[0-9]*.sql").items()
        if not name.endswith(".rollback.sql")
    }


def _unknown(questions: Iterable[str], source: Mapping[str, Any]) -> list[str]:
    """Name our figures that are asked for and that nothing shows."""
    # What is in quotes are names and values of labels.
    asked = {name for each in questions for name in _FIGURE.findall(re.sub('"[^"]*"', '""', each))}
    return sorted({name.removesuffix("_bucket") for name in asked} - {*source["figures"]})


def _sha256(source: Mapping[str, Any], name: str) -> str:
    return hashlib.sha256(source.get("files", {}).get(name, "").encode()).hexdigest()
