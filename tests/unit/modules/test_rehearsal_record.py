from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_modules import LIBRARY, load

sys.modules["ansible.module_utils.inventory_digest"] = load("inventory_digest", LIBRARY.parent / "module_utils")
RECORD = load("rehearsal_record")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A rehearsal of two hosts beside a stand-in for the world."""
    hosts = tmp_path / "hosts"
    for name in ("api-1", "db-1", "stand-in"):
        (hosts / name).mkdir(parents=True)
        (hosts / name / "host.json").write_text(json.dumps({"image": "/cache/images/abc/root", "machine_id": "1"}))
    (tmp_path / "simulator/cpq-oms-2026.11.29-001").mkdir(parents=True)
    inventory = tmp_path / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "hosts.yml").write_text("all: {}\n")
    return {
        "environment": "staging",
        "inventory": str(inventory),
        "hosts": {"db-1": "192.0.2.2", "api-1": "192.0.2.1"},
        "hosts_directory": str(hosts),
        "release": {
            "run": {"release_id": "cpq-oms-2026.11.29-001", "state": "succeeded"},
            "steps": [{"step": "smoke"}],
        },
        "secrets": ["kafka_password", "db_api_password"],
        "vault": "/etc/cpq-oms/staging/vault.yml",
        "signer": str(tmp_path / "rehearsal-signer.pub"),
        "world": {"crm": "https://crm.example.com"},
        "simulators": str(tmp_path / "simulator"),
    }


def test_the_three_differences_are_named(options: dict[str, Any]) -> None:
    Path(options["signer"]).write_text("ssh-ed25519 AAAA builder\n")
    found = RECORD.record(options)

    assert found["differs"] == {
        "secrets": {
            "generated": ["db_api_password", "kafka_password"],
            "vault": "/etc/cpq-oms/staging/vault.yml",
            "signer": "ssh-ed25519 AAAA builder",
        },
        "world": {"simulator": "cpq-oms-2026.11.29-001", "answers_for": {"crm": "https://crm.example.com"}},
        "packages": {"from": "images and caches of the control machine", "images": ["abc"]},
    }
    assert found["release"]["release_id"] == "cpq-oms-2026.11.29-001"
    assert list(found["hosts"]) == ["api-1", "db-1"]


def test_another_inventory_is_another_record_and_the_vault_is_no_part_of_it(options: dict[str, Any]) -> None:
    before = RECORD.record(options)["inventory_sha256"]
    vault = Path(options["inventory"], "group_vars/vault.yml")
    vault.write_text("secret: x\n")
    assert RECORD.record(options)["inventory_sha256"] == before

    Path(options["inventory"], "hosts.yml").write_text("all: {hosts: {}}\n")
    assert RECORD.record(options)["inventory_sha256"] != before


def test_a_host_that_was_not_made_here_is_named(options: dict[str, Any]) -> None:
    options["hosts"]["api-2"] = "192.0.2.3"

    with pytest.raises(ValueError, match="api-2: there is no image on record for it"):
        RECORD.record(options)


def test_a_world_that_nothing_stands_for_is_refused(options: dict[str, Any]) -> None:
    Path(options["simulators"], "cpq-oms-2026.11.29-001").rmdir()

    with pytest.raises(ValueError, match="stand-in: nothing stands for the external systems"):
        RECORD.record(options)


def test_a_later_run_of_the_same_release_is_nothing_new_and_another_outcome_is(options: dict[str, Any]) -> None:
    before = RECORD.lasting(RECORD.record(options))
    options["release"]["run"] |= {"started_at": "2026-11-29T10:00:00Z"}
    options["release"]["steps"].append({"step": "smoke", "evidence": "read"})
    assert RECORD.lasting(RECORD.record(options)) == before

    options["release"]["run"]["state"] = "failed"
    assert RECORD.lasting(RECORD.record(options)) != before
