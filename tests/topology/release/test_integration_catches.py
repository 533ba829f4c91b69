"""What an environment for integration exists to catch: seven mistakes, each planted for real on released hosts.

Each stops the release at a step that is known beforehand and is said there by name, with what was expected and what was found. Nothing
is changed by then: no process was restarted, no other release is current, no topic, migration or process is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from app.adapters.postgres.schema import REQUIRED_MIGRATION
from tests.topology.release.conftest import Environment
from tests.topology.release.mistakes import (
    CHECKED,
    COMPARED,
    HOST,
    INTERFACES,
    JUDGED,
    PRE_CHECKS,
    PROCESSES,
    SEEN,
    VARIABLES,
    Arguments,
    Mistake,
    altered_bundle,
    altered_inventory,
    replaced,
    stops_and_changes_nothing,
)

SETTINGS = "/etc/cpq-oms/api.env"
USERS = "/etc/redis/users.acl"
TOPIC = "cpq.quote.events.v1.dlq"
MIGRATION = "0015_expand_consumers"


def without_operation(text: str) -> str:
    """An API document that an operation was taken out of."""
    document = yaml.safe_load(text)
    del document["paths"]["/v1/orders/{order_id}"]
    return yaml.safe_dump(document)


def other_type(text: str) -> str:
    """A schema of variables in which the type of one is another."""
    schema = json.loads(text)
    schema["properties"]["orderId"] = {"type": "integer"}
    return json.dumps(schema)


@contextmanager
def deleted_topic(environment: Environment, _: Path) -> Iterator[Arguments]:
    try:
        with environment.host.kafka_administrator() as client:
            client.delete_topics([TOPIC])
            environment.until(lambda: TOPIC not in client.list_topics(), f"{TOPIC} is gone")
            yield []
            assert TOPIC not in client.list_topics(), "the release made the topic anew"
    finally:
        made = environment.admin("topics", "apply")
    assert made["changes"] == [f"create topic {TOPIC}"], made


@contextmanager
def lost_migration(environment: Environment, _: Path) -> Iterator[Arguments]:
    """A database, restored or of another branch, that lacks one in the middle."""
    row = f"cpq.migration_ledger WHERE migration = '{MIGRATION}'"
    with environment.statement(
        f"CREATE TABLE public.planted AS SELECT * FROM {row}; DELETE FROM {row}",
        "INSERT INTO cpq.migration_ledger SELECT * FROM public.planted; DROP TABLE public.planted",
    ):
        yield []


@contextmanager
def settings_of_another_environment(environment: Environment, _: Path) -> Iterator[Arguments]:
    """A file of settings copied from a host of staging."""
    host = environment.host
    before = host.run(f"cat {SETTINGS}").stdout
    host.run(f"sed -i '/^APP_ENV=/ s/{host.environment}/staging/' {SETTINGS}")
    assert host.run(f"cat {SETTINGS}").stdout != before
    try:
        yield []
    finally:
        host.run(f"cat > {SETTINGS}", standard_input=before)


@contextmanager
def redis_of_two_environments(environment: Environment, _: Path) -> Iterator[Arguments]:
    """Redis as somebody left it who brought it up for staging as well: its users' patterns, and a key of its API."""
    host = environment.host
    before = host.run(f"cat {USERS}").stdout
    client = f"REDISCLI_AUTH=$(cat) redis-cli --no-auth-warning -h {host.address} --user"

    def as_user(user: str, words: str) -> str:
        return host.run(f"{client} {user} {words}", standard_input=host.secret(f"redis_{user}_password")).stdout.strip()

    key = "staging:acme-telecom:catalog:1:offering:planted"
    host.run(f"sed -i '/^user api / s/~{host.environment}:/~staging:/g' {USERS}")
    try:
        assert as_user("operator", "ACL LOAD") == "OK"
        assert as_user("api", f"SET {key} x PX 600000") == "OK"
        yield []
    finally:
        as_user("api", f"DEL {key}")
        host.run(f"cat > {USERS}", standard_input=before)
        assert as_user("operator", "ACL LOAD") == "OK"


CATCHES: dict[str, tuple[Mistake, ...]] = {
    "wrong environment variable": (
        Mistake(
            altered_inventory("api", "'API_WORKERS'", "'API_WORKRES'"),
            JUDGED,
            VARIABLES,
            (
                "inventory: ci-1 (api): API_WORKRES is no setting of this release; is API_WORKERS meant?",
                "inventory: ci-1 (api): API_WORKERS is missing; expected",
            ),
        ),
    ),
    "missing topic": (
        Mistake(
            deleted_topic,
            CHECKED,
            PRE_CHECKS,
            (f"pre-checks: kafka-topics: not there: {TOPIC} (limit: every topic of the installed releases is there)",),
        ),
    ),
    "incompatible BPMN variable": (
        Mistake(
            altered_bundle(
                ("contracts/processes.yml", replaced("variables_schema_version: 2", "variables_schema_version: 3"))
            ),
            JUDGED,
            PROCESSES,
            ("order-fulfillment-v2.bpmn has version 3 of its variables, and workers understand 1, 2",),
        ),
        Mistake(
            altered_bundle(("contracts/variables/order-fulfillment.v1.schema.json", other_type)),
            INTERFACES,
            COMPARED,
            (
                "variables/order-fulfillment.v1.schema.json: /properties/orderId/format: changed; a version stays as it is",
            ),
        ),
    ),
    "missing migration": (
        Mistake(
            lost_migration,
            CHECKED,
            PRE_CHECKS,
            (
                f"pre-checks: {MIGRATION}.sql is missing from the database, and comes before {REQUIRED_MIGRATION}, which is applied",
            ),
        ),
    ),
    "Redis namespace mistake": (
        Mistake(
            altered_inventory(
                "api", "cpq_process_environment |", "cpq_process_environment | combine({'APP_ENV': 'staging'}) |"
            ),
            JUDGED,
            VARIABLES,
            (
                "inventory: ci-1 (api): redis-namespace: APP_ENV: expected ci, this environment (cpq_env)",
                "with which its Redis keys begin; found staging",
            ),
        ),
        Mistake(
            settings_of_another_environment,
            SEEN,
            HOST,
            (f"ci-1: redis-namespace: expected APP_ENV=ci, found staging in {SETTINGS}",),
        ),
        Mistake(
            redis_of_two_environments,
            CHECKED,
            PRE_CHECKS,
            (
                "pre-checks: redis-namespace: user api: expected ~ci:*:catalog:*, ~ci:*:index:*, ~ci:*:rate-limit:*",
                "found ~staging:*:catalog:*, ~staging:*:index:*, ~staging:*:rate-limit:*",
                "keys of another environment, such as staging:acme-telecom:",
                "(limit: users write keys that begin with ci: and there are no others)",
            ),
        ),
    ),
    "OpenAPI mismatch": (
        Mistake(
            altered_bundle(("contracts/openapi.yml", without_operation)),
            INTERFACES,
            COMPARED,
            ("openapi /paths/~1v1~1orders~1{order_id}/get: is gone",),
        ),
    ),
    "job-type mismatch": (
        # The bundle is what counts: the checkout that the release is run from has a worker for everything.
        Mistake(
            altered_bundle(
                ("bpmn/order-fulfillment-v1.bpmn", replaced("provision-service", "levitate-service")),
                ("contracts/processes.yml", replaced("provision-service", "levitate-service")),
            ),
            JUDGED,
            PROCESSES,
            ("job type levitate-service of order-fulfillment-v1.bpmn is served by no worker",),
        ),
    ),
}


@pytest.mark.parametrize("name", CATCHES)
def test_a_mistake_stops_the_release_at_its_step_by_its_name_and_nothing_is_changed(
    environment: Environment, tmp_path: Path, name: str
) -> None:
    for number, mistake in enumerate(CATCHES[name]):
        folder = tmp_path / str(number)
        folder.mkdir()
        stops_and_changes_nothing(environment, folder, mistake)


def test_with_every_mistake_taken_back_the_same_release_passes(environment: Environment) -> None:
    run = environment.release()

    assert run.code == 0, run.output
    assert environment.last_run() == ("succeeded", "{}")
