"""release_preflight: what an inventory says of its kind is held to its name before the first host hears of a release."""

from __future__ import annotations

from pathlib import Path

import pytest
from artifact_build.signature import public_key_of

from tests.support.ansible_modules import load
from tests.support.bundles import write_bundle

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


SETTINGS = {
    name: {"required": name != "API_COLOUR", "kind": "text"}
    for name in ("APP_ENV", "REDIS_URL", "API_WORKERS", "API_COLOUR")
}
OWN = "api@10.0.0.1:6379/0"
SOUND = {"APP_ENV": "dev", "REDIS_URL": f"redis://{OWN}", "API_WORKERS": "2"}


def unit_problems(**changes: str | None) -> list[str]:
    """What is said of the API's settings with some of them altered, or left out."""
    given = {name: value for name, value in {**SOUND, **changes}.items() if value is not None}
    variables = {
        "app_service_api": {"environment": given},
        "cpq_env": "dev",
        "cpq_redis": "10.0.0.1:6379/0",
        "cpq_units": {"api": {"redis_user": "api"}},
    }
    return list(preflight._unit_problems(Templar(), variables, "api", SETTINGS))


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"API_COLOUR": "red"}, []),
        (
            {"API_WORKERS": None, "API_WORKRES": "2"},
            [
                "API_WORKRES is no setting of this release; is API_WORKERS meant?",
                "API_WORKERS is missing; expected text; give it in app_service.yml",
            ],
        ),
        ({"ZZZ": "1"}, ["ZZZ is no setting of this release; take it away"]),
        (
            {"APP_ENV": "prod"},
            [
                "redis-namespace: APP_ENV: expected dev, this environment (cpq_env), with which its Redis keys begin; found prod"
            ],
        ),
        (
            {"REDIS_URL": "rediss://admin:hidden@10.0.0.1:6379/0"},
            [
                f"redis-namespace: REDIS_URL: expected rediss://{OWN} (units.yml, cpq_redis); found rediss://admin@10.0.0.1:6379/0"
            ],
        ),
        (
            {"REDIS_URL": "redis://api@10.0.0.9:6379/0"},
            [
                f"redis-namespace: REDIS_URL: expected redis://{OWN} (units.yml, cpq_redis); found redis://api@10.0.0.9:6379/0"
            ],
        ),
    ],
)
def test_what_a_unit_is_given_is_held_to_its_settings_and_to_its_environments_redis(
    changes: dict[str, str | None], problems: list[str]
) -> None:
    assert unit_problems(**changes) == problems


def test_a_bundle_from_before_the_declaration_of_settings_is_not_held_to_it(tmp_path: Path) -> None:
    assert preflight._settings(str(tmp_path)) == {}


def test_only_a_bundle_that_is_signed_and_whole_is_believed(tmp_path: Path) -> None:
    bundle, key = tmp_path / "bundle", tmp_path / "key"
    write_bundle(bundle, ["api"], key)
    signers = [public_key_of(key).read_text().strip()]
    problems: list[str] = []

    assert sorted(preflight._manifest(str(bundle), signers, problems)["units"]) == ["api"]
    assert problems == []

    (bundle / "uv").unlink()
    (bundle / "extra").write_text("")
    assert preflight._manifest(str(bundle), signers, problems) == {}
    assert problems == [
        f"signature: {bundle}: uv is missing; manifest.json lists it",
        f"signature: {bundle}: extra is not listed in manifest.json: take it away",
    ]


def test_a_bundle_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    problems: list[str] = []

    assert preflight._manifest(str(tmp_path / "none"), [], problems) == {}
    assert problems == [
        f"no bundle at {tmp_path / 'none'} (FileNotFoundError): build it with make bundle, or pass -e release_bundle=DIR"
    ]
