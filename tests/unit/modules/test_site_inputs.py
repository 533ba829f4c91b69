"""What the roles are given is one digest, which any difference in it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from playbooks.action_plugins.site_inputs import summarize

VAULT = "vault.yml"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder of roles beside a vault."""
    (tmp_path / "roles/kafka").mkdir(parents=True)
    (tmp_path / "roles/kafka/main.yml").write_text("one\n")
    (tmp_path / VAULT).write_text("secret\n")
    return tmp_path


def digest(given: Path, **options: object) -> str:
    return summarize([given / "roles", given / "secrets"], [given / VAULT], options)


def test_the_same_is_the_same_whatever_python_left_beside_it(given: Path) -> None:
    before = digest(given, x=1)
    (given / "roles/kafka/main.pyc").write_bytes(b"compiled")

    assert digest(given, x=1) == before


def test_a_generated_secret_is_a_part_of_it_from_the_first_on(given: Path) -> None:
    before = digest(given)
    (given / "secrets").mkdir()
    (given / "secrets/db_api_password").write_text("generated\n")

    assert digest(given) != before


@pytest.mark.parametrize(
    "alter",
    [
        lambda given: (given / "roles/kafka/main.yml").write_text("two\n"),
        lambda given: (given / "roles/kafka/other.yml").touch(),
        lambda given: (given / VAULT).write_text("another\n"),
        lambda given: (given / VAULT).unlink(),
    ],
    ids=["content", "another file", "vault", "no vault"],
)
def test_anything_else_is_another(given: Path, alter: Callable[[Path], object]) -> None:
    before = digest(given)
    alter(given)

    assert digest(given) != before


def test_an_option_of_the_command_line_is_a_part_of_it(given: Path) -> None:
    assert len({digest(given), digest(given, kafka_heap="1g"), digest(given, kafka_heap="2g")}) == 3
