from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from app.contracts import loader


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    copy = tmp_path / "contracts"
    shutil.copytree(loader.DIRECTORY, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return copy


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def problems_of(directory: Path) -> str:
    with pytest.raises(loader.ContractError) as refused:
        loader.load(directory)
    return str(refused.value)


def test_the_contracts_of_this_repository_are_sound() -> None:
    contracts = loader.load()

    assert contracts.units["relay"].metrics_port == 9120
    assert contracts.units["consumer"].instances["order-projection"].metrics_port == 9130
    assert contracts.job_types.job_types["reserve-inventory"].timeout == timedelta(seconds=30)
    assert contracts.topics["oms.order.events.v1"].schema_file == "order.v1.schema.json"
    assert contracts.redis.keys["catalog_offering"].ttl_ms == 600_000
    assert contracts.flags["order-fulfillment-start"].default
    assert contracts.external_systems["inventory"].rate_limit.interval == timedelta(milliseconds=5)
    assert len(contracts.external_systems) == 8


def test_every_problem_of_every_file_is_named_at_once(contracts: Path) -> None:
    edit(contracts / "units.yml", "metrics_port: 9120", "metrics_port: high")
    edit(contracts / "job_types.yml", "timeout: PT30S", "timeout: 30")
    edit(contracts / "topics" / "oms.order.events.v1.yml", "owner:", "onwer:")

    problems = problems_of(contracts)

    assert "units.yml: units.relay.metrics_port:" in problems
    assert "job_types.yml: job_types.reserve-inventory.timeout:" in problems
    assert "topics/oms.order.events.v1.yml: owner:" in problems
    assert "topics/oms.order.events.v1.yml: onwer:" in problems


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("units.yml", "  relay:\n", "  api:\n    artifact: x\n  relay:\n", "key 'api' is there twice"),
        ("units.yml", "metrics_port: 9120", "metrics_port: 9100", "port 9100 is taken by units.api.metrics_port"),
        ("units.yml", "redis_user: api", "redis_user: nobody", "'nobody' is not in redis_keys.yml"),
        ("job_types.yml", "group: fulfillment", "group: nobody", "'nobody' is not among groups"),
        ("job_types.yml", "  starter: {}", "  other: {}", "groups.starter: groups and the worker's instances"),
        ("topics/oms.order.events.v1.yml", "[order-projection,", "[nobody,", "'nobody' is no instance of the consumer"),
        ("topics/oms.order.events.v1.yml", "[relay]", "[api]", "'api' is no unit's kafka_user"),
        ("topics/oms.order.events.v1.yml", "name: oms", "name: oems", "the file's name says 'oms.order.events.v1'"),
        ("redis_keys.yml", "{env}:{tenant}:catalog", "{tenant}:catalog", "keys.catalog_"),
        ("redis_keys.yml", '"{env}:*:catalog:*"', '"*:catalog:*"', "users.api.keys.0"),
        ("external_systems.yml", "setting: CRM_URL", "setting: CMR_URL", "crm.endpoint.setting: expected CRM_URL"),
        (
            "external_systems.yml",
            "credential: crm-token",
            "credential: cmr-token",
            "crm.credential: expected crm-token",
        ),
        ("external_systems.yml", "  crm:\n    purpose", "  crm:\n    purpos", "external_systems.crm.purpose"),
        (
            "external_systems.yml",
            "longest_pause: PT20S",
            "longest_pause: PT0.5S",
            "crm.retry.longest_pause: is shorter",
        ),
        ("external_systems.yml", "unproven_calls: 10", "unproven_calls: 4", "are fewer than failures"),
        ("external_systems.yml", "unproven_calls: 10", "unproven_calls: 11", "unproven_calls"),
        ("external_systems.yml", "{answers: done}", "{answers: accepted}", "crm.sandbox.finishes_after: belongs"),
        (
            "external_systems.yml",
            "{answers: done}",
            "{answers: accepted, finishes_after: PT1S}",
            "crm.sandbox.answers: what is accepted is finished by callback",
        ),
        ("external_systems.yml", ", window: PT5M", "", "payment.callback: header, secret and window are needed"),
        ("external_systems.yml", "secret: payment-", "secret: pay-", "expected payment-callback-secret"),
        ("external_systems.yml", "{url: none}", "{url: none, window: PT5M}", "crm.callback: a system that never"),
        (
            "job_types.yml",
            "external_system: billing",
            "external_system: bank",
            "external_system: 'bank' is not declared",
        ),
        ("job_types.yml", "retry_backoff: PT2S", "retry_backoff: PT0.5S", "inventory wants a longer pause"),
        ("units.yml", "crm-token, ", "", "units.worker.credentials: crm-token is here or in external_systems.yml"),
        ("feature_flags.yml", "default: true", "default: maybe", "flags.order-fulfillment-start.default"),
        ("feature_flags.yml", "type: bool", "type: text", "flags.order-fulfillment-start.type"),
        ("feature_flags.yml", "approval: one-person", "approval: nobody", "flags.order-fulfillment-start.approval"),
    ],
)
def test_a_wrong_entry_is_named(contracts: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(contracts / file, old, new)

    assert problem in problems_of(contracts)


def test_a_missing_file_is_named(contracts: Path) -> None:
    (contracts / "units.yml").unlink()

    assert "units.yml: cannot be read" in problems_of(contracts)


def test_yaml_that_is_none_is_named(contracts: Path) -> None:
    (contracts / "redis_keys.yml").write_text("keys: [")

    assert "redis_keys.yml: " in problems_of(contracts)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("kind: rate", "kind: share", "canary.yml: measures.error-rate"),
        ("quantile: 0.5", "quantile: 50", "measures.latency-p50.quantile.quantile"),
        ("worse: lower", "worse: less", "measures.quote-to-order.rate.worse"),
        ("samples: 200", "samples: 0", "measures.error-rate.rate.samples"),
        ("chance: 0.01", "chance: 0.5", "measures.error-rate.rate.chance"),
        ("figure: fallout", "figure: mood", "measures.fallout-rate.rate.figure"),
        ("samples: 20\n    critical: true", "samples: 20\n    critical: false", "measures.price.price.critical"),
        ("critical: true", "critical: false", "none is critical"),
    ],
)
def test_a_wrong_measure_of_a_canary_is_named(contracts: Path, old: str, new: str, problem: str) -> None:
    file = contracts / "canary.yml"
    if "none" in problem:
        text = file.read_text()
        file.write_text(text[: text.index("  price:")].replace(old, new))
    else:
        edit(file, old, new)

    with pytest.raises(loader.ContractError) as refused:
        loader.load_canary_measures(contracts)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "kind", "is_right"),
    [
        ("prod", "production", True),
        ("prod", "non-production", False),
        ("dev", "non-production", True),
        ("dev", "production", False),
        ("prod-copy", "production", False),
    ],
)
def test_an_environment_is_of_the_kind_that_its_name_says(environment: str, kind: str, is_right: bool) -> None:
    problems = loader.environment_problems(environment, kind)

    assert (problems == []) == is_right
    assert all(problem.startswith("EXTERNAL_ENVIRONMENT: expected ") for problem in problems)
