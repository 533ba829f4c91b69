"""The copy of the record of releases on the machine that releases: it only grows, and outlives a torn line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from playbooks.module_utils.record_copy import RecordCopy


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
