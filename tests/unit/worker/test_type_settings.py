"""What a process makes of contract, settings and overrides, and that every wrong one is named before it starts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.http.external_system import HttpExternalSystem
from app.application.ports import CallDone, CallUnknown
from app.contracts.loader import load, load_external_systems
from app.entrypoints.worker.__main__ import problems
from app.entrypoints.worker.type_settings import TypeSettings, call_timeouts, contract_problems, type_settings
from app.runtime.runtime_settings import RuntimeSettings
from app.settings.reader import SettingsError, parse, read
from app.settings.worker import WorkerSettings

ENVIRONMENT = {
    "APP_ENV": "test",
    "APP_INSTANCE_ID": "tests",
    "TENANT_MODE": "multi",
    "OTLP_ENDPOINT": "",
    "TLS_CA_FILE": "",
    "LOG_LEVEL": "INFO",
    "METRICS_BIND": "127.0.0.1:9100",
    "DB_URL": "postgresql://cpq_worker@127.0.0.1:5432/cpq",
    "DB_POOL_MAX": "5",
    "DB_STATEMENT_TIMEOUT": "PT5S",
    "WORKER_GROUP": "fulfillment",
    "WORKER_ENABLED_TYPES": "reserve-inventory,provision-service,activate-billing,complete-order",
    "WORKER_MAX_JOBS_ACTIVE": "100",
    "WORKER_THREADS": "32",
    "WORKER_TIMEOUT": "PT30S",
    "WORKER_POLL_INTERVAL": "PT1S",
    "WORKER_REQUEST_TIMEOUT": "PT2S",
    "WORKER_MAX_RUNS": "5",
    "CAMUNDA_GRPC_ADDRESS": "127.0.0.1:26500",
    "EXTERNAL_ENVIRONMENT": "non-production",
    "CALLBACK_URL": "http://callback",
    "EXTERNAL_TIMEOUT": "PT5S",
    **{f"{name.upper().replace('-', '_')}_URL": "http://127.0.0.1:1" for name in load_external_systems()},
}

INVENTORY = load_external_systems()["inventory"].retry


@pytest.fixture
def read_settings(tmp_path: Path) -> Any:
    """Reads the settings of a worker with changes."""
    for name in ("db-password", *(f"{system}-token" for system in load_external_systems())):
        (tmp_path / name).write_text("secret")
    return lambda **changes: read(WorkerSettings, ENVIRONMENT | changes, tmp_path)


def test_without_overrides_settings_lower_the_contract_and_never_raise_it(read_settings: Any) -> None:
    contracts = load()
    contract = contracts.job_types.job_types["reserve-inventory"]

    as_declared = type_settings(read_settings(WORKER_TIMEOUT="PT10M", WORKER_MAX_RUNS="99"), contracts)
    lowered = type_settings(
        read_settings(WORKER_MAX_JOBS_ACTIVE="2", WORKER_TIMEOUT="PT20S", WORKER_MAX_RUNS="3"), contracts
    )

    assert as_declared["reserve-inventory"] == TypeSettings(
        contract.max_jobs_active, contract.timeout, contract.retries, contract.retry_backoff, INVENTORY.longest_pause
    )
    assert lowered["reserve-inventory"] == TypeSettings(
        2, timedelta(seconds=20), 3, contract.retry_backoff, INVENTORY.longest_pause
    )


def test_a_step_is_put_off_as_long_as_its_system_is_declared_to_wait(read_settings: Any) -> None:
    contracts = load()
    retry = INVENTORY.model_copy(update={"longest_pause": timedelta(minutes=3)})
    policy = contracts.external_systems["inventory"].model_copy(update={"retry": retry})
    changed = replace(contracts, external_systems={**contracts.external_systems, "inventory": policy})

    assert type_settings(read_settings(), changed)["reserve-inventory"].longest_pause == timedelta(minutes=3)


def test_an_override_counts_for_its_type_alone(read_settings: Any) -> None:
    overrides = (
        "provision-service.timeout=PT90S, provision-service.retries=8,"
        "provision-service.retry_backoff=PT7S, provision-service.max_jobs_active=4"
    )
    served = type_settings(read_settings(WORKER_TYPE_OVERRIDES=overrides), load())

    assert served["provision-service"] == TypeSettings(
        4, timedelta(seconds=90), 8, timedelta(seconds=7), load_external_systems()["provisioning"].retry.longest_pause
    )
    assert served["activate-billing"].timeout == timedelta(seconds=30)


def test_every_wrong_override_is_named(read_settings: Any) -> None:
    wrong = (
        "reserve-inventory.timeout=30,reserve-inventory.max_jobs_active=0,provision-service.threads=3,"
        "activate-billing,activate-billing.retries=two,complete-order.retries=1,complete-order.retries=2"
    )
    with pytest.raises(SettingsError) as caught:
        read_settings(WORKER_TYPE_OVERRIDES=wrong)

    text = "\n".join(caught.value.problems)
    assert text.startswith("WORKER_TYPE_OVERRIDES: ")
    for place in (
        "reserve-inventory.timeout: expected an ISO 8601 duration",
        "reserve-inventory.max_jobs_active: ",
        "entry 3: expected one of max_jobs_active, timeout, retries, retry_backoff after provision-service",
        "entry 4: expected <job type>.<field>=<value>",
        "activate-billing.retries: ",
        "complete-order.retries: is there twice",
    ):
        assert place in text


@pytest.mark.parametrize(
    "value", ["S3cret", "S3cret=1", "S3cret.timeout=PT1S", "a-type.S3cret=1", "a-type.timeout=S3cret"]
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(read_settings: Any, value: str) -> None:
    for variable in ("WORKER_TYPE_OVERRIDES", "WORKER_ENABLED_TYPES"):
        with pytest.raises(SettingsError) as caught:
            read_settings(**{variable: value})

        assert "S3cret" not in "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKER_TIMEOUT", "P9999D"),
        ("WORKER_POLL_INTERVAL", "PT2M"),
        ("WORKER_REQUEST_TIMEOUT", "PT6M"),
        ("EXTERNAL_TIMEOUT", "PT6M"),
        ("WORKER_TYPE_OVERRIDES", "provision-service.timeout=PT2H"),
        ("WORKER_TYPE_OVERRIDES", "provision-service.retry_backoff=P1D"),
    ],
)
def test_a_time_that_nobody_can_mean_is_refused(read_settings: Any, variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: "):
        read_settings(**{variable: value})


def test_what_disagrees_with_the_contract_is_named_all_at_once(read_settings: Any) -> None:
    settings = read_settings(
        WORKER_THREADS="3",
        WORKER_TYPE_OVERRIDES=(
            "reserve-stock.retries=2,reserve-inventory.max_jobs_active=500,"
            "provision-service.timeout=PT12S,complete-order.timeout=PT5S"
        ),
    )

    problems = contract_problems(settings, load())

    assert problems == [
        "WORKER_TYPE_OVERRIDES: reserve-stock is not among WORKER_ENABLED_TYPES",
        "WORKER_TYPE_OVERRIDES: reserve-inventory.max_jobs_active: expected at most 32, the contract's limit",
        "WORKER_THREADS: expected at least 4, one for each of WORKER_ENABLED_TYPES",
        "EXTERNAL_TIMEOUT: expected at most PT2S, so that 3 calls fit into a job of type provision-service",
        "WORKER_TIMEOUT: complete-order has PT5S for a job; a run needs more than PT6S beside its calls",
    ]


def test_a_worker_does_not_start_with_another_kind_of_environment_than_its_name_says(read_settings: Any) -> None:
    assert problems(read_settings()) == []

    assert problems(read_settings(EXTERNAL_ENVIRONMENT="production")) == [
        "EXTERNAL_ENVIRONMENT: expected non-production, which test is by environments.yml; given: production"
    ]


@pytest.mark.parametrize("pause", ["PT0.5S", "PT30S"])
def test_an_override_of_the_pause_stays_within_what_the_system_is_declared_to_bear(
    read_settings: Any, pause: str
) -> None:
    settings = read_settings(WORKER_TYPE_OVERRIDES=f"reserve-inventory.retry_backoff={pause}")

    assert contract_problems(settings, load()) == [
        "WORKER_TYPE_OVERRIDES: reserve-inventory.retry_backoff: expected from PT1S to PT20S, as declared for inventory"
    ]


def followed(settings: WorkerSettings) -> RuntimeSettings:
    return RuntimeSettings(
        {"EXTERNAL_TIMEOUT": settings.external_timeout},
        lambda variable, text: parse(WorkerSettings, variable, text),
    )


def test_no_value_at_run_time_lets_a_call_outlast_the_job_it_is_made_for(read_settings: Any) -> None:
    settings = read_settings(
        WORKER_TYPE_OVERRIDES="provision-service.timeout=PT12S", EXTERNAL_TIMEOUT="PT2S", WORKER_TIMEOUT="PT18S"
    )
    contracts = load()
    assert contract_problems(settings, contracts) == []
    runtime = followed(settings)
    timeouts = call_timeouts(settings, contracts, runtime)

    runtime.override({"EXTERNAL_TIMEOUT": "PT8S"})

    assert timeouts["provisioning"]() == timedelta(seconds=2)  # three calls and six seconds beside them
    assert timeouts["inventory"]() == timedelta(seconds=4)
    assert timeouts["partner"]() == contracts.external_systems["partner"].timeout  # no job of this process calls it
    runtime.override({"EXTERNAL_TIMEOUT": "PT1S"})
    assert {timeout() for timeout in timeouts.values()} == {timedelta(seconds=1)}


async def test_a_change_at_run_time_changes_how_long_the_next_call_may_take(read_settings: Any) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.3)
        return httpx.Response(201, json={"id": "r"})

    settings, contracts = read_settings(), load()
    runtime = followed(settings)
    async with httpx.AsyncClient(transport=httpx.MockTransport(slow), trust_env=False) as client:
        system = HttpExternalSystem(
            client,
            "inventory",
            contracts.external_systems["inventory"],
            base_url="http://there",
            token="secret",
            callback_url="http://here",
            timeout=call_timeouts(settings, contracts, runtime)["inventory"],
        )

        outcomes = []
        for timeout in ("PT0.1S", "PT2S"):
            runtime.override({"EXTERNAL_TIMEOUT": timeout})
            outcomes.append(type(await system.call("e:acme:o:s:1", {})))
            outcomes.append(type(await system.call("e:acme:o:s:1", {})))

    assert outcomes == [CallUnknown, CallUnknown, CallDone, CallDone]


def test_the_settings_of_the_specification_are_sound(read_settings: Any) -> None:
    assert contract_problems(read_settings(), load()) == []
