"""release_preflight: what an inventory says of its kind is held to its name before the first host hears of a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ansible_modules import load

preflight = load("release_preflight", Path(__file__).parents[3] / "playbooks/action_plugins")


class Templar:
    """Gives values as they are."""

    def template(self, value: str) -> str:
        return value


@pytest.mark.parametrize(
    ("environment", "kind", "expected"),
    [("prod", "production", ""), ("dev", "non-production", ""), ("dev", "production", "non-production"),
     ("prod", "non-production", "production"), ("prod", "Production", "production")],
)  # fmt: skip
def test_a_kind_that_is_not_the_names_is_refused(environment: str, kind: str, expected: str) -> None:
    variables = {"cpq_env": environment, "cpq_external_environment": kind}

    problems = preflight._kind_problems(Templar(), variables, frozenset({"prod"}))

    assert [problem.partition(",")[0] for problem in problems] == (
        [f"cpq_external_environment: expected {expected}"] if expected else []
    )
