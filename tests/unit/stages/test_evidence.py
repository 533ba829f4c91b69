"""What a stage came to is left as evidence of the commit that was tested, and of no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from artifact_build.signature import public_key_of

from app.application.promotion import SuiteResult
from playbooks.module_utils import evidence_files
from tests import stages
from tests.stages import Result, Stage, run_stages
from tests.support.suite_evidence import CommitUnderTest, EvidenceError, commit_under_test


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=Erika", "-c", "user.email=erika@example.com"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests/test_it.py").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


@pytest.fixture
def commit(checkout: Path, tmp_path: Path) -> CommitUnderTest:
    return commit_under_test(checkout, tmp_path / "evidence", tmp_path / "key")


def stage(name: str, *failures: str) -> Stage:
    return Stage(name, lambda: Result(passed=3, failed=len(failures), failures=list(failures)))


def left(commit: CommitUnderTest, suite: str) -> SuiteResult | None:
    """The evidence that is there, held to the key that signed it."""
    signers = [public_key_of(commit.key).read_text().strip()]
    found = evidence_files.read(commit.directory, commit.source.release_id, ("", f"tests-{suite}"), signers)
    assert found is None or isinstance(found.document, SuiteResult)
    return found.document if found else None  # type: ignore[return-value]


def test_each_stage_leaves_what_it_came_to(commit: CommitUnderTest) -> None:
    results: list[tuple[str, Result, float]] = []

    run_stages([stage("lint"), stage("unit", "tests.test_it.one")], results, commit)

    lint, unit = left(commit, "lint"), left(commit, "unit")
    assert lint is not None
    assert unit is not None
    assert (lint.passed, lint.failed, lint.git_commit) == (3, 0, commit.source.commit)
    assert (unit.passed, unit.failures) == (3, ("tests.test_it.one",))
    assert [result.failed for _, result, _ in results] == [0, 1]
    assert left(commit, "topology") is None


def test_a_later_run_takes_the_place_of_an_earlier_one(commit: CommitUnderTest) -> None:
    run_stages([stage("unit")], [], commit)
    run_stages([stage("unit", "broken")], [], commit)

    found = left(commit, "unit")
    assert found is not None
    assert found.failed == 1


def test_without_a_commit_nothing_is_left(commit: CommitUnderTest) -> None:
    run_stages([stage("unit")], [])

    assert not commit.directory.exists()


@pytest.mark.parametrize("name", ["tests/test_it.py", "tests/test_new.py"])
def test_a_checkout_that_is_not_as_committed_is_no_release(checkout: Path, name: str) -> None:
    (checkout / name).write_text("altered\n")

    with pytest.raises(EvidenceError, match=f"{name} is not as it is committed"):
        commit_under_test(checkout)


def test_what_was_altered_while_it_was_tested_counts_as_failed(checkout: Path, commit: CommitUnderTest) -> None:
    results: list[tuple[str, Result, float]] = []

    def committing() -> Result:
        (checkout / "tests/test_it.py").write_text("altered\n")
        git(checkout, "commit", "-qam", "two")
        return Result(passed=3)

    run_stages([Stage("unit", committing)], results, commit)

    [(_, result, _)] = results
    assert (result.passed, result.failed) == (3, 1)
    assert "unit: no evidence is left: commit " in result.failures[0]
    assert not commit.directory.exists()


def test_the_runner_asks_for_a_commit_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> CommitUnderTest:
        raise EvidenceError("app/one.py is not as it is committed")

    monkeypatch.setattr(stages, "commit_under_test", refuse)
    monkeypatch.setattr(stages, "run_stages", lambda *_: pytest.fail("a stage ran"))

    with pytest.raises(SystemExit) as ended:
        stages.main(["lint", "--evidence"])

    assert ended.value.code != 0
    assert "--evidence: app/one.py is not as it is committed" in capsys.readouterr().err
