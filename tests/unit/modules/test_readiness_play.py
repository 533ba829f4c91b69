"""readiness.yml as it is, with no host there: what can be seen from the control machine is judged, and what only hosts know is not green."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from artifact_build.signature import public_key_of

from app.application.promotion import READINESS, Readiness
from app.application.readiness import LOOK_AGAIN, Sight
from playbooks.module_utils import evidence_files, readiness_facts
from tests.support.control_machine import Control
from tests.support.readiness import ENVIRONMENT, ITEMS, World, whole_world

# What the environment alone can say.
LIVE = {"way-back-written", "topics-available", "bpmn-ready", "job-types-served", "redis-changes-documented"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    return whole_world(tmp_path_factory.mktemp("whole") / "world")


@pytest.fixture
def world(whole: World, tmp_path: Path) -> World:
    return whole.copied(tmp_path / "world")


def colours(world: World) -> dict[str, str]:
    """The items that are not green."""
    return {name: item.colour for name, item in world.ask().items() if item.colour != "green"}


def test_the_playbook_says_what_it_saw_and_names_what_it_could_not_see(world: World) -> None:
    control = Control(world.folder, world.bundle, world.key)
    own = {
        "promotion_approvers": [public_key_of(world.approver).read_text().strip()],
        "release_signing_key": str(world.key),
    }

    status, output = control.play("readiness.yml", ENVIRONMENT, "-e", json.dumps(own))

    assert status != 0
    kept = evidence_files.read(control.evidence, control.subject.release_id, (ENVIRONMENT, READINESS), control.signers)
    assert kept is not None, output
    answer = kept.document
    assert isinstance(answer, Readiness), output
    assert answer.items.keys() == ITEMS.keys()
    assert {name for name, item in answer.items.items() if item.colour == "unseen"} >= LIVE
    assert "no word from" in answer.items["topics-available"].detail + answer.items["way-back-written"].detail
    # The machine has no vault of that environment, without which nobody knows all settings.
    assert "vault.yml is missing" in answer.items["secrets-available"].detail
    assert answer.items["configuration-valid"].colour == "unseen"
    assert {name for name, item in answer.items.items() if item.colour == "green"} >= {
        "api-artifact",
        "schemas-published",
        "migrations-tested",
        "staging-smoke",
        "business-approval",
    }
    said = re.findall(r"readiness: ([a-z-]+): (red|unseen) \(", output)
    assert dict(said) == {name: item.colour for name, item in answer.items.items() if item.colour != "green"}
    assert set(re.findall(r"changed=([0-9]+)", output)) == {"0"}


@pytest.mark.parametrize(
    ("blind", "items", "why"),
    [
        ("release_before", LIVE - {"topics-available", "bpmn-ready"}, "no word from api-1 (no route to host)"),
        ("live", LIVE, "release live: cpq-oms-admin gave no answer"),
        ("source", {"dashboards-updated", "alerts-updated", "runbook-updated"}, "fetch it"),
        ("schema", {"configuration-valid"}, "schema: nobody looked"),
        ("plan", {"way-back-written", "redis-changes-documented"}, "release plan: a plan cannot be made"),
    ],
)
def test_what_could_not_be_seen_is_unseen_with_the_reason_and_not_green(
    world: World, blind: str, items: set[str], why: str
) -> None:
    if blind == "release_before":
        world.variables["hostvars"]["api-1"] = {blind: {"unreachable": True, "msg": "no route to host"}}
    elif blind == "source":
        shutil.rmtree(world.folder / "source/.git")
    elif blind == "plan":
        said = {"problems": ["a plan cannot be made: units: missing"], "data": {}, "changes": []}
        world.looked["plan"] = {"by_command": {"release plan": said}}
    elif blind == "live":
        world.looked["live"] = {"msg": "cpq-oms-admin gave no answer: timeout"}
    else:
        world.looked[blind] = {"skipped": True}

    found = world.ask()

    assert {name: item.colour for name, item in found.items() if item.colour != "green"} == dict.fromkeys(
        items, "unseen"
    )
    assert any(why in found[name].detail for name in items)
    assert {(found[name].evidence_sha256, found[name].remedy) for name in items} == {("", LOOK_AGAIN)}


def test_a_secret_that_the_vault_lacks_is_named_and_its_value_is_not(world: World) -> None:
    (world.folder / "vault.yml").write_text("")
    secrets = {"secret_db_api_password": "{{ vault_db_api_password }}", "secret_crm_token": "{{ vault_crm_token }}"}
    world.variables |= secrets | {"vault_crm_token": "lock-and-key"}

    item = world.ask()["secrets-available"]

    assert (item.colour, "does not define vault_db_api_password: add" in item.detail) == ("red", True)
    assert "lock-and-key" not in json.dumps(world.said)
    assert "lock-and-key" not in str(item)


def test_before_a_first_release_what_it_brings_is_ready(world: World) -> None:
    world.variables["hostvars"]["api-1"]["release_before"]["installed"] = {}
    world.looked["live"] = {"absent": True}

    assert colours(world) == {}


def test_what_is_wrong_is_red_also_where_something_else_was_not_seen(world: World) -> None:
    (world.bundle / "contracts/topics/zeebe.yml").unlink()
    world.looked["live"] = {"msg": "no answer"}

    assert colours(world)["topics-available"] == "red"


def test_the_answer_bears_a_hash_of_what_was_looked_at(world: World) -> None:
    before = world.ask()
    (world.bundle / "contracts/redis_keys.yml").write_text(
        (world.bundle / "contracts/redis_keys.yml").read_text() + "# another word\n"
    )
    world.reissue()
    after = world.ask()

    differing = {name for name in ITEMS if before[name].evidence_sha256 != after[name].evidence_sha256}
    assert "redis-changes-documented" in differing
    assert not differing & {"api-artifact", "topics-available", "dashboards-updated", "configuration-valid"}


def test_a_rehearsal_and_check_mode_keep_no_answer(world: World) -> None:
    world.ask()
    path = evidence_files.path_of(world.folder / "evidence", world.subject.release_id, (ENVIRONMENT, READINESS))
    path.unlink()

    assert world.run(is_rehearsed=True)["path"] == ""
    assert world.run(check=True)["path"] == ""
    assert not path.exists()


def test_a_file_that_no_manifest_lists_is_no_bundle(world: World) -> None:
    (world.bundle / "extra").write_text("")

    with pytest.raises(AnsibleActionFail, match=r"signature: .*extra: not listed in the manifest: take it away"):
        world.ask()


def test_a_link_in_place_of_a_file_counts_for_nothing(world: World) -> None:
    archive = world.bundle / "cpq-oms-api.tar"
    archive.rename(world.folder / "elsewhere")
    archive.symlink_to(world.folder / "elsewhere")

    assert colours(world) == {"api-artifact": "red"}


def test_a_bundle_of_an_uncommitted_checkout_has_no_source(world: World) -> None:
    sight = readiness_facts.source_sight(
        world.folder / "source", f"{world.subject.release_id}-d0123abcd", world.subject.git_commit
    )

    assert sight == Sight(unseen=sight.unseen)
    assert "differs from its commit" in sight.unseen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"item": "performance-understood"},
            "expected business-approval for prod, found performance-understood for prod",
        ),
        ({"environment": "staging"}, "expected business-approval for prod, found business-approval for staging"),
    ],
)
def test_a_word_for_something_else_counts_for_nothing(world: World, change: dict[str, Any], said: str) -> None:
    place = (ENVIRONMENT, "attestation-business-approval")
    world.alter(place, lambda attestation: replace(attestation, **change))

    assert said in world.ask()["business-approval"].detail


def test_a_word_holds_for_its_time(world: World) -> None:
    place = (ENVIRONMENT, "attestation-business-approval")
    world.alter(place, lambda attestation: replace(attestation, at=attestation.at - ITEMS["business-approval"].valid))

    [problem] = (world.ask()["business-approval"].detail,)
    assert "held until" in problem
    assert colours(world) == {"business-approval": "red"}
