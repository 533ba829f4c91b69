"""What no program has at fault and a release must not begin with."""

from __future__ import annotations

from typing import Any

import pytest

from playbooks.filter_plugins.safety import release_unsafe
from tests.unit.modules.test_release_facts import FACTS

NOW = 1_764_000_000.0
DAY, HOUR = 86400.0, 3600.0
END = 'cpq_certificate_not_after_seconds{file="/etc/cpq-oms/tls/host/cert.pem",number="0",subject="CN=api-1"}'
SOUND = {
    'cpq_backup_last_success_timestamp_seconds{type="full"}': NOW - 7 * DAY,
    'cpq_backup_last_success_timestamp_seconds{type="incr"}': NOW - 5 * HOUR,
    "cpq_backup_archive_newest_timestamp_seconds": NOW - 40,
    "cpq_recovery_point_objective_seconds": 300.0,
    "cpq_restore_drill_finished_timestamp_seconds": NOW - 20 * HOUR,
    "cpq_restore_drill_passed": 1.0,
}
GROUPS = {"all": ["api-1", "backup-1"], "api": ["api-1"], "backup": ["backup-1"]}
RELAXED = "/etc/systemd/system/cpq-oms-api.service.d/override.conf"


def unsafe(api: dict[str, Any], backup: dict[str, Any], *, installed: bool = True) -> list[str]:
    hostvars = {
        "api-1": {"before": {"installed": {"api": "some"} if installed else {}, "ahead": 0.3, "figures": {}, **api}},
        "backup-1": {"before": {"installed": {}, "ahead": 0.2, "figures": {**SOUND, **backup}}},
    }
    return release_unsafe(GROUPS, hostvars, "before", NOW)


def test_nothing_stands_against_a_sound_environment() -> None:
    assert unsafe({"figures": {END: NOW + 40 * DAY}}, {}) == []


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ({"figures": {END: NOW + 20 * DAY}}, "certificate-expiry: /etc/cpq-oms/tls/host/cert.pem ends in 20 days"),
        ({"figures": {END: NOW - 3 * DAY}}, "certificate-expiry: /etc/cpq-oms/tls/host/cert.pem ended 3 days ago"),
        ({"ahead": -2.5}, "clock-skew: its clock is 2.5 s behind"),
        ({"ahead": 90.0}, "clock-skew: its clock is 90.0 s ahead of"),
        (
            {"services": {"cpq-oms-api.service": {"drop_ins": [RELAXED]}}},
            f"unit-altered: {RELAXED} alters cpq-oms-api.service",
        ),
        (
            {"installed": {"api": "some", "admin": "some"}},
            "unit-out-of-place: admin is installed, and this host is not of",
        ),
    ],
)
def test_a_host_is_named_with_what_is_wrong_with_it(api: dict[str, Any], said: str) -> None:
    (problem,) = unsafe(api, {})

    assert problem.startswith(f"api-1: {said}")


@pytest.mark.parametrize(
    ("backup", "said"),
    [
        (
            {'cpq_backup_last_success_timestamp_seconds{type="incr"}': NOW - 14 * HOUR},
            "backup-stale: the newest backup is 14 hours old",
        ),
        (
            {"cpq_backup_archive_newest_timestamp_seconds": NOW - 301},
            "recovery-point: log came last 301 s ago, 300 are declared",
        ),
        ({"cpq_restore_drill_passed": 0.0}, "restore-drill: the last one failed"),
        (
            {"cpq_restore_drill_finished_timestamp_seconds": NOW - 51 * HOUR},
            "restore-drill: the last one was 51 hours ago",
        ),
    ],
)
def test_data_that_could_not_be_restored_is_not_changed(backup: dict[str, float], said: str) -> None:
    (problem,) = unsafe({}, backup)

    assert problem.startswith(f"backup-1: {said}")


def test_a_backup_host_that_tells_nothing_has_no_backup() -> None:
    hostvars = {"api-1": {"before": {"installed": {"api": "some"}}}, "backup-1": {"before": {}}}

    problems = release_unsafe(GROUPS, hostvars, "before", NOW)

    assert [problem.split(":")[1].strip() for problem in problems] == ["backup-stale", "recovery-point"]
    assert "there is no backup" in problems[0]


def test_an_environment_whose_database_is_not_backed_up_is_not_held_to_it() -> None:
    groups = {"all": ["local-1"], "api": ["local-1"], "db": ["local-1"], "backup": ["local-1"]}
    hostvars = {"local-1": {"before": {"installed": {"api": "some"}}}}

    assert release_unsafe(groups, hostvars, "before", NOW) == []


def test_a_first_release_has_no_data_and_its_drill_comes_later() -> None:
    assert unsafe({}, {"cpq_backup_archive_newest_timestamp_seconds": 0.0}, installed=False) == []
    assert unsafe({}, {"cpq_restore_drill_finished_timestamp_seconds": 0.0}) == []


def test_a_host_tells_the_figures_of_certificates_and_backups_alone(tmp_path: Any) -> None:
    (tmp_path / "certificates.prom").write_text(f"# HELP x y\n{END} 1790000000\ncpq_smoke_passed 1\n")
    (tmp_path / "backup.prom").write_text("cpq_restore_drill_passed 1\n")

    assert FACTS.figures(tmp_path) == {END: 1790000000.0, "cpq_restore_drill_passed": 1.0}
    assert FACTS.figures(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("serving", "problems"),
    [
        (("blue", "blue"), []),
        (("", ""), []),
        # One edge does not run.
        (("green", ""), []),
        (
            ("blue", "green"),
            ["colours: edge-1 sends requests to blue, edge-2 sends requests to green; ansible-playbook -i ENV playbooks/colour.yml -e colour=COLOUR"],
        ),
    ],
)  # fmt: skip
def test_edges_that_have_different_colours_served_are_no_beginning(
    serving: tuple[str, str], problems: list[str]
) -> None:
    edges = dict(zip(("edge-1", "edge-2"), serving, strict=True))
    hostvars = {edge: {"before": {"installed": {}, "serving": colour}} for edge, colour in edges.items()}

    assert release_unsafe({"all": [*edges], "edge": [*edges]}, hostvars, "before", NOW) == problems
