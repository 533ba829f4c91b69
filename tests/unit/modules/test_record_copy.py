"""The copy of the record of releases on the machine that releases: it only grows, and outlives a torn line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from playbooks.module_utils.record_copy import RecordCopy
from tests.support.ansible_modules import load

cpq_admin = load("cpq_admin", Path(__file__).resolve().parents[3] / "playbooks/action_plugins")


def entry(sequence: int) -> dict[str, Any]:
    return {"sequence": sequence, "body": f"{{{sequence}}}", "hash": str(sequence) * 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/release-record.jsonl"


def test_without_a_copy_nothing_is_known(path: Path) -> None:
    assert RecordCopy(path).known() == []
    RecordCopy(path).append([])
    assert not path.exists()


def test_what_follows_is_added_once(path: Path) -> None:
    RecordCopy(path).append([entry(1), entry(2)])
    RecordCopy(path).append([entry(2), entry(3)])

    assert len(path.read_text().splitlines()) == 3
    assert RecordCopy(path).known() == ["--known", f"3:{'3' * 64}"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_killed_run_left_torn_is_written_again(path: Path) -> None:
    RecordCopy(path).append([entry(1), entry(2)])
    path.write_text(path.read_text()[:-5])

    assert RecordCopy(path).known() == ["--known", f"1:{'1' * 64}"]
    RecordCopy(path).append([entry(2)])
    assert RecordCopy(path).known() == ["--known", f"2:{'2' * 64}"]


@pytest.mark.parametrize(("kind", "lines"), [("note", 1), ("read", 0)])
def test_what_is_put_on_record_is_copied_and_what_is_only_read_of_it_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lines: int
) -> None:
    """`release show` tells entries without their seals, which may be ahead of this machine's copy."""
    told = entry(1) if kind == "note" else {"sequence": 1, "runId": "x"}
    result = {"arguments": ["release"], "data": {"entries": [told]}, "checks": []}
    document = {"data": {"results": [result]}, "changes": [], "changed": False, "problems": []}
    module = cpq_admin.ActionModule.__new__(cpq_admin.ActionModule)
    module._task = SimpleNamespace(args={"commands": [{kind: ["release"]}]}, check_mode=False, diff=False)
    module._templar = SimpleNamespace(template=str)
    monkeypatch.setattr(cpq_admin.ActionBase, "run", lambda *_, **__: {})
    monkeypatch.setattr(module, "_execute", lambda *_, **__: (0, json.dumps(document), ""))

    done = module.run(task_vars={"cpq_state_dir": str(path.parent)})

    assert done["results"] == [result]
    assert len(path.read_text().splitlines() if path.exists() else []) == lines
