"""Each alert has its two tests, belongs to a dashboard, and names figures that exist. promtool runs the tests on a host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles/prometheus"
FILES = sorted((ROLE / "files/rules").glob("*.yml"))
DASHBOARDS = {"api", "postgresql", "kafka", "redis", "camunda", "worker", "relay", "inbox", "business"}


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def test_each_dashboard_has_its_rules() -> None:
    assert {path.stem for path in FILES} == DASHBOARDS | {"platform"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_alert_is_tested_both_ways_and_says_what_to_do(path: Path) -> None:
    tested = [case["name"] for case in yaml.safe_load((ROLE / "files/rule_tests" / path.name).read_text())["tests"]]
    alerts = [rule for rule in rules(path) if "alert" in rule]

    assert tested == [f"{rule['alert']} {how}" for rule in alerts for how in ("is raised", "stays quiet")]
    assert all(rule["labels"]["dashboard"] == path.stem for rule in alerts)
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in alerts)


def test_each_of_our_figures_that_a_rule_reads_is_shown_by_somebody() -> None:
    read = {
        name
        for path in FILES
        for rule in rules(path)
        for name in re.findall(r"\bcpq_\w+(?=[{\[) ]|$)", re.sub('"[^"]*"', '""', rule["expr"]))
    }
    sources = [*(ROOT / "app").rglob("*.py"), *(ROOT / "roles").rglob("*.py"), *(ROOT / "roles").rglob("README.md")]
    written = set(re.findall(r"\bcpq_\w+", "".join(path.read_text() for path in sources)))

    assert {re.sub("_bucket$", "", name) for name in read} - written == set()
