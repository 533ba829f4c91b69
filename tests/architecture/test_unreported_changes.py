"""A task that says it never changes anything could hide that it does: each has its reason here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Every one of them only reads.
REASONS = {
    ("roles/app_release/tasks/compare.yml", "Compare | Hold the installed releases against the bundle"): (
        "runs in check mode, always: what it finds is changed by the role's other task, which says so"
    ),
    ("roles/app_service/tasks/compare.yml", "Compare | Hold release, settings and state of the units against their declaration"): (
        "runs in check mode, always: what it finds is changed by the role's other task, which says so"
    ),
    ("roles/firewall/tasks/compare.yml", "compare | Hold the rules in force and their file to the declared"): (
        "runs in check mode, always: what it finds is changed by the role's other task, which says so"
    ),
    ("roles/edge/tasks/preflight.yml", "preflight | Find the interface of the edge's own address"): "ip address show",
    ("roles/etcd/tasks/health.yml", "health | Wait until the member answers with the agreement of a majority"): "etcdctl endpoint health",
    ("roles/host_base/tasks/journal.yml", "journal | Read the end of the journal"): "journalctl without an action",
    ("playbooks/settled.yml", "Leave out the roles, for nothing differs"): "a group in this run's memory only",
    ("playbooks/certificates.yml", "Note which hosts run services that hold former files"): "a group in this run's memory only",
    ("roles/rehearsal_world/tasks/health.yml", "health | Ask the first external system, as a unit does"): "an HTTP GET",
}  # fmt: skip


def tasks(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every task of a playbook or task file, those in blocks too."""
    if isinstance(document, list):
        for entry in document:
            yield from tasks(entry)
    elif isinstance(document, dict):
        yield document
        for value in document.values():
            if isinstance(value, list):
                yield from tasks(value)


def says_nothing_changes(task: dict[str, Any]) -> bool:
    """Tell whether a task denies changes, however that is written."""
    return str(task.get("changed_when", "")).strip().lower() in {"false", "no", "off", "0", "[]"}


def task_files() -> list[Path]:
    """List playbooks and the roles' tasks and handlers; a role's tests are no part of a release."""
    roles = ROOT / "roles"
    return sorted([*(ROOT / "playbooks").rglob("*.yml"), *roles.glob("*/tasks/*.yml"), *roles.glob("*/handlers/*.yml")])


def test_only_commands_that_read_deny_changes() -> None:
    found = {
        (str(path.relative_to(ROOT)), task.get("name"))
        for path in task_files()
        if "changed_when" in (text := path.read_text())
        for task in tasks(yaml.safe_load(text))
        if says_nothing_changes(task)
    }

    assert found == set(REASONS)


@pytest.mark.parametrize("written", ["false", "'false'", "no", "[]"])
def test_the_rule_sees_it_in_a_block(written: str) -> None:
    text = f"- name: play\n  tasks:\n    - block:\n        - name: one\n          changed_when: {written}\n"

    assert [task["name"] for task in tasks(yaml.safe_load(text)) if says_nothing_changes(task)] == ["one"]
