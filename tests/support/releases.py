"""Small releases to plan with: what each part looks like is real, what they say is made up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from app.application.release_plan.described import Applied, Bundle, Described, Live, Migration, Process, Surroundings

OLD = "cpq-oms-2026.11.28-100"
NEW = "cpq-oms-2026.11.29-101"
UNITS = ("admin", "api", "callback", "console", "consumer", "relay", "worker")

Documents = dict[str, dict[str, dict[str, Any]]]
Alteration = Callable[[Documents], None]


def documents() -> Documents:
    """The parts of a release, to be altered."""
    operation = {
        "responses": {
            "200": {
                "content": {
                    "application/json": {"schema": {"type": "object", "properties": {"id": {"type": "string"}}}}
                }
            }
        }
    }
    job_type = {"group": "fulfillment", "timeout": "PT30S", "retries": 5}
    process = {
        "file": "order-v1.bpmn",
        "job_types": ["reserve", "provision"],
        "variables_schema_version": 1,
    }
    key = {
        "pattern": "{env}:{tenant}:offering",
        "value_version": 2,
        "ttl": "PT10M",
        "max_keys_per_tenant": 10,
        "when_full": "shared",
    }
    flag = {"owner": "orders", "type": "bool", "default": False, "approval": "one-person", "purpose": "Tried."}
    topic = {
        "name": "orders.v1",
        "schema": "order.v1.schema.json",
        "partition_key": "orderId",
        "partitions": 6,
        "compatibility": "backward",
        "producers": ["relay"],
        "consumer_groups": ["projection"],
    }
    setting = {"category": "policy", "changes": "release", "kind": "whole number", "required": True}
    event = {
        "type": "object",
        "required": ["orderId"],
        "properties": {"orderId": {"type": "string"}, "state": {"type": "string", "enum": ["done"], "x-open": True}},
    }
    return copy.deepcopy(
        {
            "topics": {"orders.v1.yml": topic},
            "events": {"order.v1.schema.json": event},
            "variables": {"order.v1.schema.json": {"type": "object", "properties": {"orderId": {"type": "string"}}}},
            "openapi": {"openapi.yml": {"paths": {"/v1/orders": {"get": operation}}}},
            "settings": {"settings.json": {"api": {"API_WORKERS": setting}}},
            "job_types": {
                "job_types.yml": {
                    "variables_schema_versions": [1],
                    "job_types": {"reserve": job_type, "provision": {**job_type}},
                }
            },
            "processes": {
                "processes.yml": {"routing": {"order": {"default": "order-v1"}}, "processes": {"order-v1": process}}
            },
            "redis_keys": {"redis_keys.yml": {"keys": {"offering": key}}},
            "flags": {"feature_flags.yml": {"flags": {"fast-start": flag}}},
            "path": {"release_path.yml": {"generation": 5}},
        }
    )


def release(release_id: str = OLD, *alterations: Alteration) -> Described:
    """A release, altered."""
    made = documents()
    for alter in alterations:
        alter(made)
    return Described(release_id, made)


def process(name: str = "order-v1", content: str = "one", **about: Any) -> Process:
    """A process version of a bundle."""
    made = Process(name, f"{name}.bpmn", content * 8, ("reserve", "provision"), 1, "cpq-oms-2026.11.22-001")
    return replace(made, **about)


MIGRATIONS = (Migration("0001_expand_orders", "expand", "sha-1"), Migration("0002_expand_channel", "expand", "sha-2"))
PROCESSES = (process(),)


def bundle(
    *alterations: Alteration,
    release_id: str = NEW,
    units: tuple[str, ...] = UNITS,
    processes: tuple[Process, ...] = PROCESSES,
    migrations: tuple[Migration, ...] | None = MIGRATIONS,
) -> Bundle:
    """What is to be released: the release that is live, altered."""
    return Bundle(release(release_id, *alterations), frozenset(units), processes, migrations)


def live(**about: Any) -> Live:
    """An environment that has all that the release before brought."""
    made = Live(
        workers=(),
        reached=(),
        deployed={"order-v1": (process().content_sha256,)},
        migrations={each.name: Applied(each.content_sha256, OLD) for each in MIGRATIONS},
    )
    return replace(made, **about)


def around(*installed: Described, **about: Any) -> Surroundings:
    """Hosts with one release, the one before unless others are given."""
    releases = installed or (release(),)
    ids = tuple(one.release_id for one in releases)
    made = Surroundings(installed=releases, units=dict.fromkeys(UNITS, ids), owner="erika")
    return replace(made, **about)


HOSTS: Mapping[str, tuple[str, ...]] = {
    **{unit: (f"{unit}-1", f"{unit}-2") for unit in UNITS},
    "db": ("db-1",),
    "all": (*(f"{unit}-{number}" for unit in UNITS for number in (1, 2)), "db-1"),
}
"""Two hosts for each deployable, and one for the database."""
