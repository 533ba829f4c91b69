"""A whole environment that nobody altered does not differ from its declaration; one that was altered does, by the name of its host."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.rehearsal import ROOT, Rehearsal

EXIT_DRIFT = 3
DRIFT_SECONDS = 600


def drift(rehearsal: Rehearsal) -> tuple[int, list[dict[str, str]]]:
    """Compare as an operator does; return the exit code and the differences."""
    command = [sys.executable, "bootstrap.py", "drift", "--env", rehearsal.inventory_or_name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DRIFT_SECONDS)
    report = json.loads((ROOT / "dist/drift" / rehearsal.environment / "report.json").read_text())
    return done.returncode, report["findings"]


def test_an_environment_that_nobody_altered_does_not_differ(rehearsal: Rehearsal) -> None:
    assert drift(rehearsal) == (0, [])


def test_an_alteration_is_found_on_its_host_and_nowhere_else(rehearsal: Rehearsal) -> None:
    host = rehearsal.groups["relay"][-1]
    rehearsal.run(host, "nft add rule inet cpq_oms input tcp dport 4444 accept")
    try:
        code, found = drift(rehearsal)
    finally:
        rehearsal.play("firewall")

    assert code == EXIT_DRIFT
    assert {(one["plane"], one["host"]) for one in found} == {("nftables", host)}


def test_the_hourly_look_finds_nothing(rehearsal: Rehearsal) -> None:
    done = rehearsal.run(rehearsal.groups["admin"][0], "systemctl start cpq-oms-drift.service", check=False)

    assert done.returncode == 0, rehearsal.run(
        rehearsal.groups["admin"][0], "journalctl --no-pager -o cat -n 40 -u cpq-oms-drift"
    ).stdout
