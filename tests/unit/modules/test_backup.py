"""Backups: which figures come of what the repository tells, what rows are held to, and which targets a restore takes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.ansible_modules import load

ROOT = Path(__file__).parents[3]
PROGRAMS = ROOT / "roles/backup/files/usr/local/lib/cpq-oms"
# As on a host, where they lie side by side.
sys.path.append(str(PROGRAMS))
proof = load("recovery_proof", PROGRAMS)
figures = load("backup_figures", PROGRAMS)
marker = load("recovery_marker", PROGRAMS)
restore = load("database_restore", ROOT / "roles/backup/library")

SETTINGS = proof.Settings("cpq", "17", 5432, "cpq", ("cpq.product_order",), 300, 3600)
ROWS = {"cpq.product_order": {"rows": 7, "hash": "12"}, "cpq.audit_entry": {"rows": 9, "hash": "-3"}}
SEGMENT = "00000001000000000000000" + "{}-" + "a" * 40 + ".zst"


def backup(kind: str, stop: int, *, error: bool = False) -> dict[str, Any]:
    return {"type": kind, "timestamp": {"start": stop - 5, "stop": stop}, "error": error}


def told(*backups: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "cpq", "backup": list(backups), "archive": [{"id": "17-1", "max": "000000010000000000000004"}]}]


def shown(page: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    }


def test_figures_tell_of_the_newest_backup_of_each_type_and_of_no_damaged_one(tmp_path: Path) -> None:
    page = figures.page(
        SETTINGS, told(backup("full", 100), backup("incr", 200), backup("incr", 300, error=True)), {}, tmp_path
    )

    assert shown(page) == {
        "cpq_recovery_point_objective_seconds": 300,
        "cpq_recovery_time_objective_seconds": 3600,
        'cpq_backup_last_success_timestamp_seconds{type="full"}': 100,
        'cpq_backup_last_success_timestamp_seconds{type="incr"}': 200,
        "cpq_backup_damaged": 1,
        "cpq_backup_oldest_timestamp_seconds": 100,
        "cpq_restore_drill_finished_timestamp_seconds": 0,
    }


def test_age_of_the_log_is_that_of_the_newest_segment_and_of_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "cpq/17-1/0000000100000000"
    folder.mkdir(parents=True)
    for name, at in ((SEGMENT.format(3), 1000), (SEGMENT.format(4), 2000), ("000000010000000000000005.partial", 9000)):
        (folder / name).touch()
        os.utime(folder / name, (at, at))

    assert shown(figures.page(SETTINGS, told(), {}, tmp_path))["cpq_backup_archive_newest_timestamp_seconds"] == 2000


def test_a_failed_drill_is_shown_with_what_it_found(tmp_path: Path) -> None:
    drill = {"passed": False, "finished_at": 50.0, "restore_seconds": 8.5, "digest": ROWS}
    found = shown(figures.page(SETTINGS, told(), drill, tmp_path))

    assert found["cpq_restore_drill_passed"] == 0
    assert found["cpq_restore_drill_restore_seconds"] == 8.5
    assert found['cpq_restore_drill_rows{table="cpq.product_order"}'] == 7
    assert "cpq_restore_drill_recovery_point_age_seconds" not in found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, []),
        ({"rows": 6}, ["cpq.product_order: expected 7 rows, found 6"]),
        ({"hash": "13"}, ["cpq.product_order: has 7 rows, of which some are not the expected ones"]),
    ],
)
def test_rows_that_differ_are_named(change: dict[str, Any], problem: list[str]) -> None:
    assert proof.differences(ROWS, {**ROWS, "cpq.product_order": {"rows": 7, "hash": "12", **change}}) == problem


def test_a_missing_table_is_named() -> None:
    assert proof.differences(ROWS, {"cpq.audit_entry": ROWS["cpq.audit_entry"]}) == ["cpq.product_order: is missing"]


def test_writers_wait_for_the_point_and_not_for_the_count() -> None:
    statements = marker.point_statements("before", ("cpq.product_order", "cpq.audit_entry"))
    order = [
        statements.index(part)
        for part in ("SAVEPOINT", "LOCK TABLE", "pg_create_restore_point", "ROLLBACK TO", "count(*)")
    ]

    assert order == sorted(order)


def test_every_table_of_the_proof_is_one_of_the_migrations() -> None:
    declared = yaml.safe_load((ROOT / "inventories/base/backup/backup.yml").read_text())["backup_proof_tables"]
    made = {
        name
        for path in (ROOT / "migrations").glob("*.sql")
        for name in re.findall(r"CREATE TABLE (cpq\.\w+)", path.read_text())
    }

    assert set(declared) <= made
    assert declared


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("latest", ""),
        ("time", "2026-11-29 00:50:00+00"),
        ("time", "2026-11-29 00:50:00.25+05:30"),
        ("name", "before-x"),
        ("lsn", "0/3000148"),
    ],
)
def test_a_target_that_says_one_moment_is_taken(kind: str, target: str) -> None:
    assert restore.target_problem(kind, target) == ""


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("latest", "now"),
        ("time", "yesterday"),
        ("time", "2026-11-29 00:50:00"),
        ("name", "a b"),
        ("name", ""),
        ("lsn", "3000148"),
    ],
)
def test_any_other_is_refused_by_name(kind: str, target: str) -> None:
    assert restore.target_problem(kind, target).startswith("restore_target: expected ")


def test_what_begins_at_a_place_in_the_log_is_not_replayed() -> None:
    assert restore.target_options("lsn", "0/3000148") == [
        "--type=lsn",
        "--target=0/3000148",
        "--target-exclusive",
        "--target-action=promote",
    ]


@pytest.mark.parametrize(
    "inventory", sorted((ROOT / "inventories").glob("*/hosts.yml")), ids=lambda path: path.parent.name
)
def test_who_promises_a_recovery_point_has_a_backup_host_of_its_own(inventory: Path) -> None:
    groups = yaml.safe_load(inventory.read_text())["all"]["children"]
    variables = yaml.safe_load((inventory.parent / "group_vars/all/environment.yml").read_text())
    apart = set(groups["backup"]["hosts"]) - set(groups["db"]["hosts"])

    assert bool(apart) == (variables["cpq_recovery_point_seconds"] > 0) == (variables["cpq_recovery_time_seconds"] > 0)
