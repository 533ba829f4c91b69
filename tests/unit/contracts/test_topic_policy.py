"""Each policy of topics is broken once, by one edit of a sound file, and must name the file and the field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contracts import loader

ORDERS = "topics/oms.order.events.v1.yml"
QUOTES = "topics/cpq.quote.events.v1.yml"
LETTERS = "topics/oms.order.events.v1.dlq.yml"
ENGINE = "topics/zeebe.yml"


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    copy = tmp_path / "contracts"
    shutil.copytree(loader.DIRECTORY, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return copy


def problems_of(directory: Path) -> tuple[str, ...]:
    with pytest.raises(loader.ContractError) as refused:
        loader.load(directory)
    return refused.value.problems


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (QUOTES, "owner: quoting\n", "", "owner: Field required"),
        (QUOTES, "retention_ms: 2592000000", "retention_ms: 86400000", "retention_ms: 1 days, for events 7 to 90"),
        (QUOTES, "retention_ms: 2592000000", "retention_ms: 7862400000", "retention_ms: 91 days, for events 7 to 90"),
        (ENGINE, "retention_ms: 604800000", "retention_ms: 2678400000", "retention_ms: 31 days, for engine-records"),
        (QUOTES, "partitions: 6", "partitions: 49", "partitions: 49, more than 48"),
        (QUOTES, "min_insync: 2", "min_insync: 1", "min_insync: 1 of 3 copies"),
        (QUOTES, "min_insync: 2", "min_insync: 3", "min_insync: 3 of 3 copies"),
        (QUOTES, "producers: [relay]", "producers: []", "producers: nobody may write it"),
        (QUOTES, "cleanup_policy: delete", "cleanup_policy: compact", "cleanup_policy: compaction"),
        (QUOTES, "compatibility: backward", "compatibility: none", "compatibility: a reader of events"),
        (QUOTES, ", consumer_lag_age: PT5M", "", "alert_thresholds: consumer_lag_records and consumer_lag_age"),
        (QUOTES, "partition_key: quoteId", "partition_key: customerId", "partition_key: is 'customerId'"),
        (
            QUOTES,
            "quote.v1.schema",
            "order.v1.schema",
            "schema: is 'order.v1.schema.json', the name asks for 'quote.v1",
        ),
        (LETTERS, "partition_key: orderId", "partition_key: quoteId", "partition_key: is 'quoteId', that of oms.order"),
        (
            LETTERS,
            "retention_ms: 7776000000",
            "retention_ms: 2505600000",
            "retention_ms: shorter than that of oms.order",
        ),
        (LETTERS, "alert_thresholds: {dead_letters: 1}", "", "alert_thresholds: dead_letters is needed"),
        (QUOTES, "consumer_groups: [audit-export]", "consumer_groups: []", "no consumer group that could fail"),
    ],
)
def test_a_broken_policy_is_named_by_file_and_field(
    contracts: Path, file: str, old: str, new: str, problem: str
) -> None:
    path = contracts / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    assert [line for line in problems_of(contracts) if line.startswith("topics/") and problem in line]


@pytest.mark.parametrize("name", ["oms.order.v1", "order.events.v1", "oms.order.events.v0", "oms.order.events.v1x"])
def test_events_are_named_by_domain_aggregate_and_version(contracts: Path, name: str) -> None:
    path = contracts / QUOTES
    path.write_text(path.read_text().replace("cpq.quote.events.v1", name))
    path.rename(path.with_name(f"{name}.yml"))

    assert f"topics/{name}.yml: name: events are named <domain>.<aggregate>.events.v<N>" in problems_of(contracts)


@pytest.mark.parametrize("name", ["oms.order.events.v1.failed", "oms.parcel.events.v1.dlq", "zeebe.dlq"])
def test_dead_letters_are_named_by_their_source(contracts: Path, name: str) -> None:
    path = contracts / LETTERS
    path.write_text(path.read_text().replace("oms.order.events.v1.dlq", name, 1))
    path.rename(path.with_name(f"{name}.yml"))

    assert f"topics/{name}.yml: name: dead letters are named <topic of events>.dlq" in problems_of(contracts)


def test_a_consumed_topic_has_a_topic_for_its_dead_letters(contracts: Path) -> None:
    (contracts / LETTERS).unlink()

    [problem] = problems_of(contracts)
    assert problem.startswith(f"{ORDERS}: consumer_groups: there is no topic oms.order.events.v1.dlq")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda schema: schema["required"].remove("tenantId"), "does not require tenantId"),
        (lambda schema: schema["properties"].pop("orderId"), "does not require orderId"),
        (lambda schema: schema.update(additionalProperties=False), "forbids other properties"),
        (lambda schema: schema.pop("properties"), "is no JSON Schema of an object"),
    ],
)
def test_a_schema_that_lacks_what_every_event_says_is_named(
    contracts: Path, change: Callable[[dict[str, object]], object], problem: str
) -> None:
    path = contracts / "events" / "order.v1.schema.json"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))

    assert [line for line in problems_of(contracts) if line.startswith(f"{ORDERS}: schema: ") and problem in line]


def test_a_schema_that_is_not_there_is_named(contracts: Path) -> None:
    (contracts / "events" / "order.v1.schema.json").unlink()

    assert problems_of(contracts) == (f"{ORDERS}: schema: events/order.v1.schema.json does not exist",)


@pytest.mark.parametrize(("brokers", "replicas", "insync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (5, 3, "2")])
def test_a_cluster_keeps_as_many_copies_as_it_can_and_survives_the_loss_of_one(
    brokers: int, replicas: int, insync: str
) -> None:
    topic = loader.load_topics()["oms.order.events.v1"]

    assert topic.replicas(brokers) == replicas
    assert topic.settings(brokers)["min.insync.replicas"] == insync
