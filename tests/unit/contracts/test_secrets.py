"""The table of secrets, and that units, services and inventories hold what it says and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.contracts.loader import DIRECTORY, ContractError, load_secrets, load_units

ROOT = DIRECTORY.parents[1]
DECLARED = load_secrets()
USED = re.compile(r"secret_[a-z_]+")


def named_in(path: Path) -> set[str]:
    """Secrets that a file names at the beginning of a line."""
    return {
        line.partition(":")[0].removeprefix("secret_") for line in path.read_text().splitlines() if USED.match(line)
    }


@pytest.mark.parametrize(
    "inventory",
    sorted(path for path in (ROOT / "inventories").iterdir() if (path / "hosts.yml").exists()),
    ids=lambda path: path.name,
)
def test_every_inventory_names_every_secret(inventory: Path) -> None:
    assert named_in(inventory / "group_vars/all/secrets.yml") == set(DECLARED.secrets)


def test_units_have_the_credentials_that_secrets_say() -> None:
    held = {(unit, file) for secret in DECLARED.secrets.values() for unit, file in secret.units.items()}

    assert held == {(name, file) for name, unit in load_units().items() for file in unit.credentials}


def test_who_logs_in_is_who_the_unit_is() -> None:
    units = load_units()
    for name, secret in DECLARED.secrets.items():
        for unit in secret.units:
            known = {
                "database_role": {units[unit].database_role, "cpq_owner"},
                "kafka_user": {units[unit].kafka_user},
                "redis_user": {units[unit].redis_user},
            }.get(secret.kind)
            assert known is None or secret.account in known, name


def test_a_client_that_takes_one_value_is_given_the_one_that_counts() -> None:
    """Roles and clients of servers that take several are given the first line; credential files that may have two, both."""
    takes_both = {"database_role", "kafka_user", "console_password", "client_secret"}
    said: dict[str, set[str]] = {}
    for path in (ROOT / "inventories/base").rglob("*.yml"):
        if path.parent.name == "all":
            continue
        for line in path.read_text().splitlines():
            for name in USED.findall(line):
                is_present = f"{name} | present_secret" in line
                said.setdefault(name.removeprefix("secret_"), set()).add(
                    f"{path.parent.name}/{path.stem}{'' if is_present else ' whole'}"
                )
    whole = {(name, place) for name, places in said.items() for place in places if place.endswith(" whole")}

    served = {
        ("kafka_" + user + "_password", "kafka/kafka whole")
        for user in ("admin", "relay", "consumer", "zeebe", "observer", "broker")
    }
    served |= {(f"redis_{user}_password", "redis/redis whole") for user in ("api", "admin", "monitor")}
    assert {(name, place) for name, place in whole if DECLARED.secrets[name].kind not in takes_both} <= served
    assert served <= whole


def test_a_secret_of_no_kind_and_a_kind_that_keeps_the_former_value_are_refused(tmp_path: Path) -> None:
    text = (DIRECTORY / "secrets.yml").read_text()
    (tmp_path / "secrets.yml").write_text(
        text.replace("kind: console_password", "kind: typed").replace(
            "- {value: [new], apply: servers}\n    proof: none",
            "- {value: [new, former], apply: servers}\n    proof: none",
        )
    )

    with pytest.raises(ContractError) as refused:
        load_secrets(tmp_path)

    assert "secrets.yml: secrets.console_password.kind: 'typed' is not in kinds" in refused.value.problems
    assert "secrets.yml: kinds.console_password.steps: the last one leaves the former value" in refused.value.problems
