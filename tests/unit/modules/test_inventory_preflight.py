"""What an inventory may not say, and that the eight that exist say the same things."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.ansible_modules import load

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = ROOT / "inventories"
ENVIRONMENTS = ("local", "dev", "contract", "integration", "performance", "staging", "prod", "dr")
PLUGIN = load("inventory_preflight", ROOT / "playbooks/action_plugins")
# What depends on where machines come from, with its reason in the schema.
OPTIONAL = {name for name, entry in PLUGIN._load(PLUGIN.SCHEMA)["variables"].items() if "optional" in entry}

judge: Callable[..., list[str]] = PLUGIN.judge


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """A copy of staging, with files of its own."""
    copy = tmp_path / "inventory"
    shutil.copytree(INVENTORIES / "staging", copy, ignore=shutil.ignore_patterns("vault.yml"))
    return copy


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "../tests/support/inventories/ci"])
def test_every_inventory_holds_to_the_schema(name: str) -> None:
    assert judge(INVENTORIES / name) == []


def test_there_are_exactly_the_eight() -> None:
    found = {path.parent.name for path in INVENTORIES.glob("*/hosts.yml")}

    assert found == set(ENVIRONMENTS)


def variables(inventory: Path) -> dict[str, set[str]]:
    """Names by group."""
    found: dict[str, set[str]] = {}
    for path in PLUGIN._files(inventory):
        found.setdefault(path.parent.name, set()).update(yaml.safe_load(path.read_text()) or {})
    return found


# The one host has a ledger that the smoke test reads; elsewhere external systems keep their own. Windows are prod's.
OF_SOME_GROUPS = {
    "smoke_ledger_url",
    "release_checks_observation_seconds",
    "release_checks_window_samples",
    "release_checks_window_interval_seconds",
    "release_checks_window_bad_in_a_row",
}


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name != "prod"])
def test_every_environment_has_the_variables_of_production(name: str) -> None:
    production, other = variables(INVENTORIES / "prod"), variables(INVENTORIES / name)

    differing = {group: production.get(group, set()) ^ other.get(group, set()) for group in {*production, *other}}
    assert set().union(*differing.values()) <= OPTIONAL | OF_SOME_GROUPS


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


ENVIRONMENT = "group_vars/all/environment.yml"
# File, text, what stands in its place, what is said after the file's name.
MUTATIONS: Mapping[str, tuple[str, str, str, str]] = {
    "removed": (ENVIRONMENT, "cpq_tls: true\n", "", "cpq_tls is missing; whether services speak TLS: add it"),
    "misspelt": (ENVIRONMENT, "cpq_firewall:", "cpq_firewal:", "cpq_firewal is unknown; is cpq_firewall meant?"),
    "unknown": (
        ENVIRONMENT,
        "cpq_tls: true",
        "cpq_tls: true\nzzz: 1",
        "zzz is unknown; add it to inventories/schema.yml or correct the name",
    ),
    "type": (
        ENVIRONMENT,
        "cpq_tls: true",
        "cpq_tls: 'yes'",
        "cpq_tls: expected a value of type boolean, whether services speak TLS; found 'yes'",
    ),
    "entry": (
        ENVIRONMENT,
        "cpq_operations_networks: [",
        "cpq_operations_networks: [everywhere, ",
        (
            "cpq_operations_networks[0]: expected text like ^[0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}$, "
            "from where operators reach hosts; found 'everywhere'"
        ),
    ),
    "choice": (
        "group_vars/all/endpoints.yml",
        "cpq_external_environment: non-production",
        "cpq_external_environment: test",
        (
            "cpq_external_environment: expected one of ['production', 'non-production'], "
            "the kind of environment that endpoints must prove; found 'test'"
        ),
    ),
    "gone": (
        ENVIRONMENT,
        "cpq_tls: true",
        "cpq_tls: true\ncpq_network_prefix: 24",
        "cpq_network_prefix is gone since release 1.0; use cpq_subnet, with its prefix",
    ),
    "role option": (
        "group_vars/redis/redis.yml",
        "redis_max_memory:",
        "redis_max_memry:",
        "redis_max_memry is unknown; is redis_max_memory meant?",
    ),
    "use": (
        "group_vars/redis/redis.yml",
        "secret_redis_api_password",
        "secret_redis_ap_password",
        "cpq_redis_passwords uses secret_redis_ap_password, which is unknown; is secret_redis_api_password meant?",
    ),
    "secret": (
        "group_vars/all/secrets.yml",
        'secret_crm_token: "{{ vault_crm_token }}"\n',
        "",
        "secret_crm_token is missing; a secret: add it",
    ),
    "hosts": ("hosts.yml", "kafka-2: {}, ", "", "group kafka has 2 of at least 3 hosts (staging: full)"),
    "broken": (ENVIRONMENT, "cpq_tls: true", "cpq_tls: [", ""),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_named_with_its_file(staging: Path, name: str) -> None:
    file, old, new, said = MUTATIONS[name]
    replaced(staging / file, old, new)

    problems = judge(staging)

    if name == "broken":
        assert problems[0].startswith(f"{staging / file}: no YAML: ")
    else:
        assert problems == [f"{staging / file}: {said}"]


def test_a_misspelt_group_is_named(staging: Path) -> None:
    (staging / "group_vars/redis").rename(staging / "group_vars/rediss")

    problems = judge(staging)

    assert f"{staging / 'group_vars/rediss'}: no group is named so; is redis meant?" in problems


def test_addresses_are_of_the_subnet_and_of_one_host_each(staging: Path) -> None:
    hosts = staging / "hosts.yml"
    text: dict[str, Any] = yaml.safe_load(hosts.read_text())
    addresses = text["all"]["hosts"]
    addresses["api-1"]["ansible_host"] = addresses["api-2"]["ansible_host"]
    addresses["redis-1"]["ansible_host"] = "198.18.0.9"
    hosts.write_text(yaml.safe_dump(text))

    problems = judge(staging)

    assert len(problems) == 2
    assert f"{hosts}: redis-1: 198.18.0.9 is not in cpq_subnet" in problems[0]
    assert problems[1] == f"{hosts}: {addresses['api-2']['ansible_host']} is the address of api-1, api-2"


def test_evaluated_values_are_judged(staging: Path) -> None:
    problems = judge(staging, {"cpq_simulator": "no address"}.get)

    assert any("cpq_simulator: expected text like ^https?://" in line for line in problems)


def test_what_holds_secrets_is_neither_evaluated_nor_shown(staging: Path) -> None:
    replaced(staging / "group_vars/all/contracts.yml", "cpq_external_tokens:", "cpq_external_tokens: hunter2\nzzz:")

    problems = judge(staging)

    assert any("cpq_external_tokens: expected a value of type object" in line for line in problems)
    assert "hunter2" not in "".join(problems)
