"""A release that could not go on says so before its first change, also without the set-up around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.contracts.loader import load_units
from tests.support.scratch_environment import ANSIBLE, ScratchEnvironment, run

TIERS = ("edge", "db", "kafka", "redis", "zeebe", "observability", *load_units())


@pytest.fixture
def released(scratch: ScratchEnvironment) -> ScratchEnvironment:
    """An inventory with every tier on a host that there is not."""
    groups = "".join(f"    {tier}: {{hosts: {{scratch-1: }}}}\n" for tier in TIERS)
    inventory = "all:\n  hosts:\n    scratch-1: {ansible_host: 10.56.4.11}\n  children:\n" + groups
    (scratch.inventory / "hosts.yml").write_text(inventory)
    return scratch


def release(scratch: ScratchEnvironment, tmp_path: Path) -> list[str]:
    """Release a bundle that is only named; return what is said to that, line by line."""
    manifest = {"release_id": "cpq-oms-2031.01.05-001", "units": {unit: {} for unit in load_units()}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = run([str(ANSIBLE), "-i", str(scratch.inventory), "release.yml", "-e", f"release_bundle={tmp_path}"])
    assert done.returncode != 0
    assert "changed=0" in done.stdout
    return done.stdout.splitlines()


def own_variables(scratch: ScratchEnvironment, group: str, old: str, new: str) -> None:
    """Give a group variables of its own, with one altered name."""
    folder = scratch.inventory / "group_vars" / group
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    folder.unlink()
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text.replace(old, new))
    assert new in "".join(path.read_text() for path in folder.iterdir())


def test_missing_and_misspelt_variables_are_named_with_their_host(released: ScratchEnvironment, tmp_path: Path) -> None:
    own_variables(released, "relay", "app_service_relay:", "unlike_any_other:")
    own_variables(released, "admin", "smoke_tenant:", "smoke_tennant:")

    said = release(released, tmp_path)

    assert [line.strip().removeprefix("reason").strip() for line in said if "inventory: " in line] == [
        "inventory: scratch-1 (admin): smoke_tenant is missing; is smoke_tennant meant?",
        "inventory: scratch-1 (relay): app_service_relay is missing; add it to group_vars or correct its name",
    ]


def test_a_host_that_cannot_be_reached_is_named_with_the_remedy(released: ScratchEnvironment, tmp_path: Path) -> None:
    said = release(released, tmp_path)

    [reason] = [line for line in said if line.startswith("  reason ")]
    assert reason.endswith("; see that scratch-1 runs and answers by ssh, then give the same command again")
