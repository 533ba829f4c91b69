"""One comparison of a released host, and whether it says of an alteration what it must and nothing else."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.drift_proof.mutations import MUTATIONS, Mutation
from tests.support.ansible_modules import load
from tests.support.released_host import ReleasedHost

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path(os.environ.get("CPQ_TEST_INVENTORY", ROOT / "tests/support/inventories/ci"))
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
LEAST = 40


class NoComparisonError(Exception):
    """The comparison did not come to its end; carries what it said."""


def planes() -> list[str]:
    """Every plane that is compared."""
    return list(load("drift_planes", ROOT / "playbooks/module_utils").PLANES)


def gaps(mutations: Sequence[Mutation] = MUTATIONS) -> list[str]:
    """What the list of alterations lacks to prove anything: planes without one, or too few of them."""
    covered = {mutation.plane for mutation in mutations}
    found = [f"no alteration of the plane {plane}" for plane in planes() if plane not in covered]
    names = [mutation.name for mutation in mutations]
    found += [f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1})]
    return found + ([f"{len(names)} alterations, {LEAST} are promised"] if len(names) < LEAST else [])


def compare(bundle: Path) -> dict[str, Any]:
    """Compare declared with live and return the report.

    Raises:
        NoComparisonError: the playbook failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = ["-e", f"drift_folder={folder}", "-e", f"release_bundle={bundle}"]
        command = [str(ANSIBLE), "-i", str(INVENTORY), "playbooks/drift.yml", *given]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise NoComparisonError(done.stdout + done.stderr)
        report: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
        return report


def prepare(host: ReleasedHost) -> None:
    """Keep what is none of the proof's business out of the reports.

    Other tests leave values in the cache that no release writes, which would be findings, and rightly so. The host's own
    comparison and its synthetic order would fail by what is planted, here and in other tests: their timers begin to wait
    anew, and an order that failed meanwhile is proven again.
    """
    host.run("systemctl restart cpq-oms-drift.timer cpq-oms-smoke.timer")
    host.run("systemctl reset-failed cpq-oms-drift.service", check=False)
    host.run("if systemctl --quiet is-failed cpq-oms-smoke.service; then systemctl start cpq-oms-smoke.service; fi")
    client = f"redis-cli --no-auth-warning -h {host.address} --user admin"
    pattern = f"{host.environment}:test-*"
    command = f"export REDISCLI_AUTH=$(cat); {client} --scan --pattern '{pattern}' | xargs -r -n 100 {client} DEL"
    host.run(command, standard_input=host.secret("redis_admin_password"))


def false_alarms(report: Mapping[str, Any]) -> list[str]:
    """What a report says of a host on which nothing was altered."""
    return [_line(one) for one in report["findings"]] + [
        f"not seen: {one['host']} {one['plane']}: {one['reason']}" for one in report["unseen"]
    ]


def problems(mutation: Mutation, host: ReleasedHost, report: Mapping[str, Any]) -> list[str]:
    """In what a report differs from what it must say of one alteration; nothing when it says that and no more."""
    mine = [one for one in report["findings"] if mutation.matches(one) and one["host"] == host.name]
    missing = [] if mine else [f"not found: {mutation.plane} {mutation.item}: {mutation.expected} -> {mutation.found}"]
    others = [one for one in report["findings"] if one not in mine]
    return [
        *missing,
        *(f"beside it: {_line(one)}" for one in others),
        *false_alarms({"findings": [], "unseen": report["unseen"]}),
    ]


def choose(count: int, seed: str) -> list[Mutation]:
    """Some of the alterations, of different planes, the same for the same seed."""
    shuffled = list(MUTATIONS)
    random.Random(seed).shuffle(shuffled)
    by_plane = {mutation.plane: mutation for mutation in shuffled}
    return list(by_plane.values())[:count]


def _line(one: Mapping[str, str]) -> str:
    return f"{one['host']} {one['plane']} {one['item']}: expected {one['expected']!r}, found {one['found']!r}"
