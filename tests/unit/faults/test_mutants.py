"""The mutants are data: each still fits the source it alters, and the altered source is still a program."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.faults.mutants import Mutant, MutantDoesNotApplyError, load_mutants
from tests.support.unit_process import ROOT

MUTANTS = load_mutants()


def test_there_are_as_many_as_promised() -> None:
    assert len(MUTANTS) >= 15


def copied(tree: Path, mutant: Mutant) -> list[Path]:
    """Copy the files that a mutant alters into another tree."""
    files = [tree / file for file, _, _ in mutant.changes]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file.relative_to(tree), file)
    return files


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fits_the_source_and_leaves_a_program(name: str, tmp_path: Path) -> None:
    files = copied(tmp_path, MUTANTS[name])

    MUTANTS[name].apply(tmp_path)

    for file in files:
        assert file.read_text() != (ROOT / file.relative_to(tmp_path)).read_text()
        if file.suffix == ".py":
            ast.parse(file.read_text())


def test_a_mutant_whose_text_is_gone_is_named(tmp_path: Path) -> None:
    mutant = Mutant("gone", "x", "calm", ("I1",), ("api",), (("app/domain/values.py", "no such text", ""),))
    copied(tmp_path, mutant)

    with pytest.raises(MutantDoesNotApplyError, match=r"gone: in app/domain/values\.py this text is there 0 times"):
        mutant.apply(tmp_path)
