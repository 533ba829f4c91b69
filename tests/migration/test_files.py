from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

from app.adapters.postgres.schema import REQUIRED_MIGRATION
from app.application.migration_header import header_problems, phase_of

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
STEPS = sorted(path for path in MIGRATIONS.glob("*.sql") if not path.name.endswith(".rollback.sql"))


def test_the_ledger_is_what_the_files_hash_to() -> None:
    expected = [f"{path.stem} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in STEPS]

    assert (MIGRATIONS / "ledger.txt").read_text().splitlines() == expected


@pytest.mark.parametrize("step", STEPS, ids=lambda path: path.stem)
def test_every_step_has_a_rollback_and_a_verify_script(step: Path) -> None:
    assert (MIGRATIONS / f"{step.stem}.rollback.sql").is_file()
    assert (MIGRATIONS / "verify" / step.name).is_file()


@pytest.mark.parametrize(("before", "step"), list(itertools.pairwise(STEPS)), ids=lambda path: path.stem)
def test_every_step_depends_on_the_one_before(before: Path, step: Path) -> None:
    assert step.read_text().startswith(f"-- depends: {before.stem}\n")


def test_every_head_says_what_its_phase_asks_for() -> None:
    assert header_problems({step.stem: step.read_text() for step in STEPS}) == []


@pytest.mark.parametrize("step", [step for step in STEPS if "_backfill_" not in step.name], ids=lambda path: path.stem)
def test_every_step_limits_how_long_it_waits_and_runs(step: Path) -> None:
    """A backfill's limits are its budget: they are set for each batch."""
    text = step.read_text()

    assert "SET lock_timeout = " in text
    assert "SET statement_timeout = " in text


def test_the_code_needs_the_newest_expand_step_it_ships_with() -> None:
    """The other phases come after the code."""
    assert [step.stem for step in STEPS if phase_of(step.stem) == "expand"][-1] == REQUIRED_MIGRATION
