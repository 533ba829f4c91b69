"""What readiness is judged by: a bundle's folder, the commit that it was built from, and what the tasks of readiness.yml came to, as facts.

A look that came to nothing is told with its reason; it is no problem of the release, and no sign that there is none.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parents[2]))

from app.application.readiness import Facts, Sight
from app.application.readiness_probes import CHANGELOG, DASHBOARDS, RULE_TESTS, RULES, RUNBOOK
from roles.app_release.module_utils import bundle_verification

# Where figures are shown from: what a unit, an exporter of ours or a role's page names.
FIGURES = ("app/**/*.py", "roles/**/*.py", "roles/*/README.md")
_DECLARED = (".yml", ".json")
_WITHOUT_SECRET = re.compile(r"'vault_\w+' is undefined")


def bundle_facts(folder: Path, signers: list[str], sights: Mapping[str, Sight]) -> Facts:
    """Look at every byte of a bundle.

    Raises:
        UntrustedError: its manifest is not signed by one of `signers`, or it has a file that the manifest does not list.
        OSError: it has no manifest.
    """
    manifest = bundle_verification.verified_manifest(*bundle_verification.sealed(folder), signers)
    sealed = {bundle_verification.MANIFEST, bundle_verification.SIGNATURE}
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    if foreign := sorted(paths.keys() - manifest["files"].keys() - sealed):
        raise bundle_verification.UntrustedError(f"{', '.join(foreign)}: not listed in the manifest: take it away")
    files = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in paths.items()
        # What a link leads to is no part of the bundle.
        if name not in sealed and not path.is_symlink()
    }
    whole = {name for name, sha256 in files.items() if manifest["files"][name]["sha256"] == sha256}
    archives = {
        about["file"]: tuple(bundle_verification.artifact_problems(folder, unit, manifest))
        for unit, about in manifest["units"].items()
        if about["file"] in whole
    }
    documents = {name: found for name in sorted(whole) if (found := _document(name, paths[name])) is not None}
    runbook = paths["runbook.md"].read_text(encoding="utf-8") if "runbook.md" in whole else ""
    return Facts(manifest, files, archives, documents, runbook, sights)


def source_sight(checkout: Path, release_id: str, commit: str) -> Sight:
    """Look at what the commit of a bundle says, whatever is checked out: dashboards, rules, the runbook, the newest changes."""
    if re.search(r"-d[0-9a-f]+$", release_id):
        return Sight(
            unseen=f"{release_id} was built from a checkout that differs from its commit: build one from a commit"
        )
    folders = (CHANGELOG, DASHBOARDS, RULES, RULE_TESTS, RUNBOOK)
    archive = _git(checkout, "archive", commit, *folders)
    if archive is None:
        return Sight(unseen=f"commit {commit[:12]} is not in {checkout}: fetch it, or ask from a checkout that has it")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {
            member.name: (tar.extractfile(member) or io.BytesIO()).read().decode() for member in tar if member.isreg()
        }
    figures = _git(checkout, "grep", "-hoE", r"\bcpq_\w+", commit, "--", *(f":(glob){each}" for each in FIGURES)) or b""
    names = (_git(checkout, "ls-tree", "--name-only", commit) or b"").decode().split()
    return Sight(
        {
            "files": files,
            "documents": {name: _yaml(text) for name, text in files.items() if name.endswith(".yml")},
            "figures": sorted(set(figures.decode().split())),
            "playbooks": [name for name in names if name.endswith(".yml") and not name.startswith(".")],
        }
    )


def hosts_sight(groups: Mapping[str, Any], hostvars: Any, facts: str) -> Sight:
    """Look at which releases hosts said that they have; one that did not say is named."""
    installed: dict[str, set[str]] = {}
    silent: dict[str, list[str]] = {}
    for host in groups["all"]:
        if host == "localhost":
            continue
        said = (hostvars[host] or {}).get(facts) or {}
        if "installed" not in said:
            silent.setdefault(_reason(said), []).append(host)
        for unit, release_id in said.get("installed", {}).items():
            installed.setdefault(unit, set()).add(release_id)
    if silent:
        said_of = "; ".join(f"no word from {', '.join(hosts)} ({reason})" for reason, hosts in silent.items())
        return Sight(unseen=said_of)
    return Sight({"installed": {unit: sorted(releases) for unit, releases in sorted(installed.items())}})


def command_sight(result: Mapping[str, Any], command: str) -> Sight:
    """Look at what one of the operators' commands said: its data and differences, and its problems where it had data to judge."""
    if result.get("absent"):
        return Sight(unseen=f"{command}: cpq-oms-admin is not installed there")
    said = (result.get("by_command") or {}).get(command)
    if said is None:
        return Sight(unseen=f"{command}: {_reason(result)}")
    problems = tuple(said["problems"])
    if problems and not said["data"]:
        return Sight(unseen=f"{command}: {'; '.join(problems)}")
    return Sight({**said["data"], "changes": said["data"].get("changes", said["changes"])}, problems)


def judged_sight(results: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any]) -> Sight:
    """Look at what tasks that judge by failing came to, each line of what they said a problem; signatures are judged elsewhere.

    They are told not to fail, so that what they say is the only sign. What cannot be evaluated because the vault lacks a secret is not seen: the
    secret itself is said elsewhere.
    """
    skipped = [name for name, result in results.items() if not result or result.get("skipped")]
    if skipped:
        return Sight(unseen=f"{', '.join(skipped)}: nobody looked")
    lines = [line for each in results.values() for line in str(each.get("msg", "")).splitlines()]
    hidden = [line for line in lines if _WITHOUT_SECRET.search(line)]
    unseen = f"{len(hidden)} variables cannot be evaluated without secrets that the vault lacks" if hidden else ""
    problems = [line for line in lines if line not in hidden and not line.startswith("signature: ")]
    return Sight(data, tuple(problems), unseen)


def standing_on(sight: Sight, *others: Sight) -> Sight:
    """Return a look that counts only where others saw what it stands on."""
    return next((Sight(unseen=other.unseen) for other in others if other.unseen), sight)


def _reason(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg") or "no answer").split())


def _document(name: str, path: Path) -> Any:
    """Return what a declaration says; None where it is none, or cannot be read."""
    try:
        if name == "migrations/ledger.txt":
            return path.read_text(encoding="utf-8")
        if name.startswith("contracts/") and path.suffix in _DECLARED:
            text = path.read_text(encoding="utf-8")
            return json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (ValueError, yaml.YAMLError):
        pass
    return None


def _yaml(text: str) -> Any:
    # Some tens of files, which the loader in Python takes a second for.
    return yaml.load(text, Loader=yaml.CSafeLoader)


def _git(checkout: Path, *words: str) -> bytes | None:
    """Return what git says; None where it cannot."""
    command = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout), *words]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
