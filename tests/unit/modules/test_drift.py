"""What a comparison says: every difference with its plane and remedy, every plane that nobody could see, and nothing of what is sound."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.ansible_modules import load

ROOT = Path(__file__).resolve().parents[3]
REPORT = load("drift_report", ROOT / "playbooks/action_plugins")
PLANES = load("drift_planes", ROOT / "playbooks/module_utils")
DOCUMENTS = load("drift_documents", ROOT / "playbooks/module_utils")
for shared in ("unit_files", "host_planes"):
    sys.modules[f"ansible.module_utils.{shared}"] = load(shared, ROOT / "playbooks/module_utils")
HOST = sys.modules["ansible.module_utils.host_planes"]
LIVE = load("live_state")
TOLERANCES = ROOT / "inventories/drift_tolerances.yml"
summarize: Callable[..., dict[str, Any]] = REPORT.summarize

DECLARED: dict[str, Any] = {
    "sysctl": {"net.core.somaxconn": "4096"},
    "packages": ["curl"],
    "units": {"services": ["kafka.service"], "drop_ins": ["/kafka.service.d/tls.conf"]},
    "nftables": ["table inet cpq_oms"],
    "certificates": ["kafka"],
    "postgresql-settings": {"max_connections": "200"},
    "postgresql-roles": {"cpq_api": "connections 40"},
    "redis-policy": {"maxmemory-policy": "allkeys-lfu"},
}
LIVE_ITEMS: dict[str, dict[str, str]] = {
    "sysctl": {"net.core.somaxconn": "4096"},
    "packages": {"curl": "8.14.1-2"},
    "units": {"kafka.service": "enabled", "drop-in /etc/systemd/system/kafka.service.d/tls.conf": "there"},
    "nftables": {"table inet cpq_oms": "table inet cpq_oms { }"},
    "certificates": {"kafka": "subject=CN=kafka"},
    "postgresql-settings": {"max_connections": "200", "shared_buffers": "256MB"},
    "artifacts": {"api": "r1 sha256 abc"},
}
SERVICES: dict[str, Any] = {
    "live": {
        "postgresql-roles": {"cpq_api": "connections 40", "postgres": "superuser"},
        "redis-policy": {"maxmemory-policy": "allkeys-lfu", "save": ""},
        "flags": {"a": "on"},
    },
    "differences": [],
    "unseen": {},
}


def host(live: dict[str, Any] | None = None, services: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    """What a clean host left in its variables, unless given."""
    clean = {
        "release_host_units": ["api"],
        "drift_live": {"live": LIVE_ITEMS | (live or {}), "unseen": {}},
        "app_release_comparison": {"diff": []},
        "app_service_comparison": {"diff": []},
        "drift_services": {"by_command": {"drift": {"data": services or SERVICES, "problems": []}}},
    }
    return clean | other


def report_of(**hosts: dict[str, Any]) -> dict[str, Any]:
    """The report of an environment whose first host is that of operators' commands."""
    found = summarize(hosts, dict.fromkeys(hosts, DECLARED), next(iter(hosts)))
    return found | {"environment": "x", "release_id": "r1", "taken_at": "2026-01-01T00:00:00+00:00"}


def test_a_clean_environment_has_no_findings_and_nothing_unseen() -> None:
    report = report_of(a=host())

    assert (report["findings"], report["unseen"]) == ([], [])


@pytest.mark.parametrize(
    ("plane", "live", "item", "expected", "found"),
    [
        ("sysctl", {"net.core.somaxconn": "128"}, "net.core.somaxconn", "4096", "128"),
        ("packages", {}, "curl", "installed", "absent"),
        (
            "packages",
            {"curl": "8 half-configured, wanted: install"},
            "curl",
            "installed",
            "8 half-configured, wanted: install",
        ),
        ("units", {"kafka.service": "disabled"}, "kafka.service", "enabled", "disabled"),
        ("units", {"kafka.service": "enabled, failed"}, "kafka.service", "not failed", "failed"),
        ("units", {}, "kafka.service", "enabled", "absent"),
        ("units", {"kafka.service": "enabled", "x.timer": "enabled, stopped"}, "x.timer", "started", "stopped"),
        (
            "units",
            {"kafka.service": "enabled", "drop-in /etc/systemd/system/cpq-oms-api.service.d/cpq-oms.conf": "there"},
            "drop-in /etc/systemd/system/cpq-oms-api.service.d/cpq-oms.conf",
            "no such drop-in",
            "there",
        ),
        ("nftables", {}, "table inet cpq_oms", "there", "absent"),
        ("certificates", {"kafka": "x", "redis": "subject=CN=redis"}, "redis", "absent", "subject=CN=redis"),
        ("postgresql-settings", {"max_connections": "100"}, "max_connections", "200", "100"),
        (
            "postgresql-settings",
            {"max_connections": "200", "ALTER SYSTEM fsync": "off"},
            "ALTER SYSTEM fsync",
            "absent",
            "off",
        ),
    ],
)
def test_what_a_host_has_otherwise_than_declared_is_found(
    plane: str, live: dict[str, str], item: str, expected: str, found: str
) -> None:
    report = report_of(a=host({plane: live}))

    [one] = report["findings"]
    assert (one["host"], one["plane"], one["item"], one["expected"], one["found"]) == (
        "a",
        plane,
        item,
        expected,
        found,
    )
    assert one["remedy"] == PLANES.PLANES[plane]


def test_the_hosts_own_comparison_fails_by_what_it_found_and_is_no_difference_itself() -> None:
    units = {"kafka.service": "enabled", "cpq-oms-drift.service": "static, failed"}

    assert report_of(a=host({"units": units}))["findings"] == []


def test_the_role_that_copies_the_database_is_described_as_the_server_tells_it() -> None:
    assert PLANES.role_text({"name": "cpq_replication", "may_replicate": True}) == "connections -1; may replicate"


@pytest.mark.parametrize(
    ("plane", "live", "found"),
    [
        ("postgresql-roles", {"cpq_api": "connections 40; superuser"}, "connections 40; superuser"),
        ("postgresql-roles", {"cpq_api": "connections 40", "eve": "connections -1"}, "connections -1"),
        ("redis-policy", {"maxmemory-policy": "noeviction"}, "noeviction"),
    ],
)
def test_what_services_have_otherwise_than_the_inventory_says_is_found(
    plane: str, live: dict[str, str], found: str
) -> None:
    services = copy.deepcopy(SERVICES)
    services["live"][plane] = live

    [one] = report_of(a=host(services=services))["findings"]

    assert (one["plane"], one["found"]) == (plane, found)


def test_what_the_operators_command_found_is_passed_on_with_its_remedy() -> None:
    difference = {"plane": "flags", "item": "a", "expected": "off", "found": "on"}

    [one] = report_of(a=host(services=SERVICES | {"differences": [difference]}))["findings"]

    assert one == {**difference, "host": "a", "remedy": PLANES.PLANES["flags"]}


@pytest.mark.parametrize(
    ("path", "plane"),
    [
        ("/etc/systemd/system/cpq-oms-api.service", "unit-files"),
        ("/etc/cpq-oms/api.env", "settings"),
        ("/etc/cpq-oms/credentials/api/db-password", "credentials"),
        ("cpq-oms-api.service", "units"),
    ],
)
def test_a_file_that_differs_shows_the_lines_of_both_sides_alone(path: str, plane: str) -> None:
    difference = {"after_header": path, "before": "a\nold\nz", "after": "a\nnew\nz"}

    [one] = report_of(a=host(app_service_comparison={"diff": [difference]}))["findings"]

    assert (one["plane"], one["item"], one["expected"], one["found"]) == (plane, path, "new", "old")


def test_packages_of_several_versions_within_an_environment_are_found_on_the_host_that_is_behind() -> None:
    report = report_of(a=host(), b=host({"packages": {"curl": "8.9.1-1"}}))

    [one] = report["findings"]
    assert (one["host"], one["item"], one["expected"], one["found"]) == (
        "b",
        "curl",
        "8.14.1-2, as on other hosts",
        "8.9.1-1",
    )


@pytest.mark.parametrize(
    ("variables", "plane"),
    [
        ({"drift_live": {"unreachable": True, "msg": "no route"}}, "every plane of the host"),
        ({"drift_live": {"live": {}, "unseen": {"sysctl": "no file"}}}, "sysctl"),
        ({"app_service_comparison": None}, "unit-files"),
        ({"app_service_comparison": {"failed": True, "msg": "settings refused"}}, "unit-files"),
        ({"cpq_firewall": True}, "nftables"),
        ({"drift_services": {"msg": "no such command"}}, "kafka-topics"),
        (
            {
                "drift_services": {
                    "by_command": {"drift": {"data": SERVICES | {"unseen": {"bpmn": "x"}}, "problems": []}}
                }
            },
            "bpmn",
        ),
    ],
)
def test_what_could_not_be_seen_is_named_and_is_not_clean(variables: dict[str, Any], plane: str) -> None:
    report = report_of(a=host(**variables))

    assert plane in [one["plane"] for one in report["unseen"]]
    assert re.search(rf"NOT SEEN  a  .*{plane}", DOCUMENTS.as_text(report))
    assert plane in DOCUMENTS.as_html(report)


def test_the_page_shows_what_was_found_takes_none_of_it_for_markup_and_needs_nothing_else() -> None:
    difference = {"after_header": "<script>", "before": "", "after": "x"}

    page = DOCUMENTS.as_html(report_of(a=host(app_release_comparison={"diff": difference})))

    assert "&lt;script&gt;" in page
    assert not [word for word in ("<script", "http://", "https://", "src=", "<link") if word in page]


def recorded(environment: str, **live: Any) -> dict[str, Any]:
    """What was kept of an environment of one host."""
    found = report_of(a=host({"nftables": {}} | live))
    return json.loads(json.dumps(found | {"environment": environment}))  # type: ignore[no-any-return]


def test_two_environments_are_alike_when_they_differ_in_their_own_name_alone() -> None:
    one, other = (recorded(name, certificates={f"{name} x": f"of {name}"}) for name in ("alpha", "beta"))

    assert PLANES.between(one, other, []) == ([], [])
    assert PLANES.unseen_between(one, other) == []


@pytest.mark.parametrize(
    ("of", "found", "tolerated"),
    [("presence", ["a"], ["b"]), ("state", ["b"], ["a"]), ("any", [], ["a", "b"])],
)
def test_an_environment_that_differs_from_another_is_told_so_unless_it_is_declared_with_a_reason(
    of: str, found: list[str], tolerated: list[str]
) -> None:
    one, other = recorded("alpha", sysctl={"a": "1"}), recorded("beta", sysctl={"a": "2", "b": "3"})
    tolerance = {"plane": "sysctl", "item": "[ab]", "of": of, "reason": "because"}

    differing, allowed = PLANES.between(one, other, [tolerance])
    everything, _ = PLANES.between(one, other, [])

    assert [each["item"] for each in differing] == found
    assert [(each["item"], each["remedy"]) for each in allowed] == [(item, "because") for item in tolerated]
    assert [(each["host"], each["item"], each["expected"], each["found"]) for each in everything] == [
        ("alpha against beta", "a", "2", "1"),
        ("alpha against beta", "b", "3", "absent"),
    ]


def test_a_plane_that_only_one_environment_was_seen_in_is_not_taken_for_alike() -> None:
    one, other = recorded("alpha"), recorded("beta")
    for planes in other["hosts"].values():
        planes.pop("packages")

    [missing] = PLANES.unseen_between(one, other)

    assert (missing["plane"], missing["reason"]) == ("packages", "not seen in beta")


def test_every_tolerance_names_a_plane_and_says_why() -> None:
    entries = REPORT.tolerances(TOLERANCES)

    assert all(len(entry["reason"].split()) > 3 for entry in entries)


def test_the_remedies_name_playbooks_that_there_are() -> None:
    named = {
        word.strip(",;")
        for remedy in PLANES.PLANES.values()
        for word in remedy.split()
        if word.startswith("playbooks/")
    }

    assert all((ROOT / path).is_file() for path in named)
    assert named


def test_every_plane_is_in_the_page_that_says_what_is_compared() -> None:
    page = (ROOT / "docs/drift.md").read_text()

    assert [plane for plane in PLANES.PLANES if f"`{plane}`" not in page] == []


def test_kernel_settings_are_read_from_the_kernel_and_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/x").write_text("4\t5\n")
    file = tmp_path / "50.conf"
    file.write_text("net.x = 4 5\n")
    monkeypatch.setattr(HOST, "PROCESSES", tmp_path)

    seen = HOST.sysctl(["net.x", "net.y"], [str(file), "/absent"])

    assert seen == {"net.x": "4 5", "net.y": "unknown to the kernel", str(file): "net.x = 4 5\n"}


SYSTEMD = """Id=cpq-oms-api.service
DropInPaths=/usr/lib/systemd/system/service.d/10-x.conf /etc/systemd/system/cpq-oms-api.service.d/override.conf
NeedDaemonReload=no
UnitFileState=enabled
ActiveState=active

Id=redis-server.service
DropInPaths=
NeedDaemonReload=yes
UnitFileState=disabled
ActiveState=failed

Id=cpq-oms-reconcile.timer
DropInPaths=
NeedDaemonReload=no
UnitFileState=enabled
ActiveState=inactive

Id=cpq-oms-resume.timer
DropInPaths=
NeedDaemonReload=no
UnitFileState=static
ActiveState=inactive
"""


def test_units_are_described_with_what_is_wrong_with_them_and_with_their_drop_ins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def run(*words: str) -> str:
        asked.extend(words)
        return SYSTEMD

    monkeypatch.setattr(LIVE, "run", run)
    monkeypatch.setattr(LIVE, "timers", lambda: ["cpq-oms-never-loaded.timer"])

    units = LIVE.units()

    assert "cpq-oms-never-loaded.timer" in asked
    assert units == {
        "cpq-oms-api.service": "enabled",
        "drop-in /etc/systemd/system/cpq-oms-api.service.d/override.conf": "there",
        "redis-server.service": "disabled, changed since it was loaded, failed",
        "cpq-oms-reconcile.timer": "enabled, stopped",
    }


def test_packages_are_described_with_their_state_where_they_are_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "bash 5 installed install\nzsh 6 half-configured install\ngone 1 config-files deinstall\nkept 2 installed hold\n"
    monkeypatch.setattr(HOST, "run", lambda *_: listed)

    assert HOST.packages() == {
        "bash": "5",
        "zsh": "6 half-configured, wanted: install",
        "kept": "2 installed, wanted: hold",
    }


def test_a_certificate_is_described_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kafka").mkdir()
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=kafka",
    ]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "kafka/cert.pem"), "-days", "30"]
    subprocess.run([*request, *files], check=True, capture_output=True)
    monkeypatch.setattr(LIVE, "CERTIFICATES", tmp_path)

    assert "kafka" in LIVE.certificates()["kafka"]
    assert "notAfter" in LIVE.certificates()["kafka"]


def test_a_role_and_a_limit_are_written_as_services_show_them() -> None:
    role = {"name": "r", "connection_limit": 3, "settings": {"b": "2", "a": "1s"}, "member_of": ["pg_monitor"]}

    assert PLANES.role_text(role) == "connections 3; a=1s, b=2; member of pg_monitor"
    assert PLANES.policy_texts("128mb", "allkeys-lfu") == {"maxmemory": "134217728", "maxmemory-policy": "allkeys-lfu"}
    assert PLANES.policy_texts("50%", "noeviction") == {"maxmemory-policy": "noeviction"}
    assert [PLANES.setting_text(value) for value in (True, 200)] == ["on", "200"]


def test_the_tolerances_are_read_as_they_are_written() -> None:
    assert yaml.safe_load(TOLERANCES.read_text())["tolerances"] == REPORT.tolerances(TOLERANCES)
