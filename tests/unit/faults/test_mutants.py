"""The mutants are data: each still fits the source it alters, and the altered source is still a program."""

from __future__ import annotations

import ast

import pytest

from tests.faults.mutants import Mutant, MutantDoesNotApplyError, load_mutants, planted

MUTANTS = load_mutants()


def test_there_are_as_many_as_promised() -> None:
    assert len(MUTANTS) >= 15


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fits_the_source_and_leaves_a_program(name: str) -> None:
    with planted(MUTANTS[name]) as tree:
        for file, _, _ in MUTANTS[name].changes:
            if file.endswith(".py"):
                ast.parse((tree / file).read_text())


def test_a_mutant_whose_text_is_gone_is_named() -> None:
    mutant = Mutant("gone", "x", "calm", ("I1",), ("api",), (("app/domain/values.py", "no such text", ""),))

    with (
        pytest.raises(MutantDoesNotApplyError, match=r"gone: in app/domain/values\.py this text is there 0 times"),
        planted(mutant),
    ):
        pass
