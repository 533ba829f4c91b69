"""promote.yml and approve.yml as they are: a release goes on to a stage, or is refused by the name of what is not shown, and nothing changes.

No host is there. What a sound chain leads to is the first play of release.yml, which ends where the vault of the environment is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from artifact_build.signature import ensure_key

from app.application.promotion import APPROVAL, REHEARSAL, RELEASE, Approval, Attestation, Part, attestation_name
from app.contracts.loader import load_units
from playbooks.module_utils import evidence_files
from playbooks.module_utils.inventory_digest import digest
from tests.support.ansible_modules import load
from tests.support.bundles import write_bundle
from tests.support.control_machine import Control
from tests.support.promotion import PROMOTION, documents

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "playbooks/action_plugins"
promotion = load("promotion", PLUGINS)
release_evidence = load("release_evidence", PLUGINS)
NOW = datetime.now(UTC)
NEXT = "== Judge inventory, variables, bundle and processes before any host hears of the release"


def show_everything(control: Control) -> None:
    """Leave what the whole path has to show."""
    made = documents(control.subject, NOW, by=control.by, inventory=digest(ROOT / "prod"))
    # An approval is of evidence that is there.
    for place, document in sorted(made.items(), key=lambda each: isinstance(each[1], Approval)):
        if isinstance(document, Approval):
            evidence = control.path((place[0], RELEASE)).read_bytes()
            control.write(place, replace(document, evidence_sha256=hashlib.sha256(evidence).hexdigest()))
        else:
            control.write(place, document)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("signed")
    ensure_key(folder / "key")
    write_bundle(folder / "bundle", load_units(), folder / "key")
    return folder / "bundle", folder / "key"


@pytest.fixture
def control(signed: tuple[Path, Path], tmp_path: Path) -> Control:
    return Control(tmp_path, *signed)


@pytest.fixture(scope="module")
def everything(signed: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a whole path."""
    shown = Control(tmp_path_factory.mktemp("shown"), *signed)
    show_everything(shown)
    return shown.evidence


@pytest.fixture
def shown(control: Control, everything: Path) -> Control:
    """A control machine of a test's own with all of it."""
    shutil.copytree(everything, control.evidence)
    return control


def reasons(output: str) -> list[str]:
    """The lines of the reason of the one failure there is."""
    [said] = re.findall(r"^  reason   (.*?)\n\n", output, re.MULTILINE | re.DOTALL)
    return [line.strip() for line in said.splitlines()]


def test_a_release_with_a_whole_chain_goes_on_to_production(shown: Control) -> None:

    status, output = shown.play("promote.yml", "prod")

    assert status != 0
    assert NEXT in output
    [reason] = reasons(output)
    assert "vault" in reason
    table = re.findall(r"^ +(\S+) +(rehearsal \S+|tests \S+|\S+) +there ", output, re.MULTILINE)
    assert {stage for stage, _ in table} == set(PROMOTION.stages)
    assert ("staging", "tests rollback") in table


def test_what_is_missing_has_expired_or_was_altered_is_named_before_any_play_of_a_release(shown: Control) -> None:
    made = documents(shown.subject, NOW, by=shown.by)
    tests: Any = made["", "tests-unit"]
    shown.write(("", "tests-unit"), replace(tests, at=NOW - timedelta(days=31)))
    shown.path(("staging", APPROVAL)).unlink()
    rehearsal = shown.path(("prod", REHEARSAL))
    rehearsal.write_text(rehearsal.read_text().replace("smoke is well", "smoke was well"))
    before = {path: path.stat().st_mtime_ns for path in shown.evidence.rglob("*")}

    status, output = shown.play("promote.yml", "prod")

    assert status != 0
    local, staging, prod = reasons(output)
    assert re.match(r"promotion: local: tests unit: expired \(held until .*\); test the commit: make evidence ", local)
    assert staging.startswith(
        "promotion: staging: approval: missing; approve it: ansible-playbook approve.yml -i inventories/staging"
    )
    assert re.match(
        r"promotion: prod: rehearsal build, .*: refused \(rehearsal\.json\.sig is no signature of this", prod
    )
    assert NEXT not in output
    assert set(re.findall(r"changed=([0-9]+)", output)) == {"0"}
    assert {path: path.stat().st_mtime_ns for path in shown.evidence.rglob("*")} == before


def test_a_person_approves_what_a_stage_has_shown(shown: Control) -> None:
    shown.path(("staging", APPROVAL)).unlink()

    status, output = shown.play(
        "approve.yml", "inventories/staging", "-e", "approval='load as before'", "-e", f"approval_key={shown.key}"
    )

    assert status == 0, output
    found = evidence_files.read(shown.evidence, shown.subject.release_id, ("staging", APPROVAL), shown.signers)
    assert found is not None
    assert isinstance(found.document, Approval)
    assert (found.document.by, found.document.reason) == (shown.by, "load as before")
    judged = shown.ask(
        promotion, state="judged", environment="prod", inventory=str(ROOT / "prod"), approvers=shown.signers
    )
    assert judged["problems"] == []


def approve(control: Control, *, check: bool = False, **changes: Any) -> dict[str, Any]:
    given = {"state": "approved", "approvers": control.signers, "key": str(control.key), "reason": "as before"}
    return control.ask(promotion, check=check, **{**given, **changes})


def test_nobody_approves_what_is_not_shown(shown: Control) -> None:
    shown.path(("", "tests-rollback")).unlink()
    approval = shown.path(("staging", APPROVAL))
    approval.unlink()

    assert approve(shown)["problems"] == [
        'staging: tests rollback: missing; test the commit: make evidence STAGE="rollback"'
    ]
    assert not approval.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": " "}, "approval: expected the reason"),
        ({"key": "/nowhere/key"}, "approval_key: /nowhere/key.pub: No such file"),
        ({"approvers": []}, "is none of promotion_approvers: nobody"),
        ({"environment": "contract"}, "cpq_env: contract is on no release's path (local, dev, "),
        ({"environment": "trial"}, "app/contracts/promotion.yml does not name it"),
        ({"bundle": "/nowhere"}, "release_bundle: /nowhere/manifest.json: No such file"),
        ({"signers": []}, "nobody is trusted to sign"),
    ],
)
def test_an_approval_is_refused_by_the_name_of_what_is_wrong(
    shown: Control, changes: dict[str, Any], said: str
) -> None:
    before = {path: path.read_bytes() for path in shown.evidence.rglob("*") if path.is_file()}

    with pytest.raises(AnsibleActionFail) as refused:
        approve(shown, **changes)

    assert said in str(refused.value)
    assert {path: path.read_bytes() for path in shown.evidence.rglob("*") if path.is_file()} == before


def test_an_approval_in_check_mode_leaves_none(shown: Control) -> None:
    approval = shown.path(("staging", APPROVAL))
    before = approval.read_bytes()

    assert approve(shown, check=True)["approved_by"] == shown.by
    assert approval.read_bytes() == before


def test_a_person_attests_what_no_machine_can_know(shown: Control) -> None:
    status, output = shown.play(
        "approve.yml",
        "prod",
        *("-e", "attested=business-approval", "-e", "approval='the window suits us'"),
        *("-e", f"approval_key={shown.key}"),
    )

    assert status == 0, output
    place = ("prod", attestation_name("business-approval"))
    found = evidence_files.read(shown.evidence, shown.subject.release_id, place, shown.signers)
    assert found is not None
    assert isinstance(found.document, Attestation)
    assert (found.document.item, found.document.environment) == ("business-approval", "prod")
    assert (found.document.by, found.document.reason) == (shown.by, "the window suits us")
    assert found.document.bundle == shown.subject


@pytest.mark.parametrize("item", ["staging-smoke", "mood"])
def test_nobody_attests_what_a_machine_sees(shown: Control, item: str) -> None:
    with pytest.raises(
        AnsibleActionFail,
        match=rf"attested: {item} is nothing that a person attests; expected one of performance-understood, business-approval",
    ):
        approve(shown, state="attested", item=item, environment="prod")


def test_an_attestation_is_refused_as_an_approval_is(shown: Control) -> None:
    with pytest.raises(AnsibleActionFail, match="is none of promotion_approvers: nobody"):
        approve(shown, state="attested", item="business-approval", environment="prod", approvers=[])
    assert approve(shown, check=True, state="attested", item="business-approval", environment="prod")["approved_by"]
    assert not shown.path(("prod", attestation_name("business-approval"))).exists()


def test_the_first_stage_is_open(control: Control) -> None:
    local = control.ask(promotion, state="judged", environment="local", approvers=control.signers)

    assert (local["problems"], local["report"]) == ([], "nothing is asked for: it is the first stage\n")


# --- what a release leaves behind


def proof(control: Control, **changes: Any) -> dict[str, Any]:
    """What the plays of a release found, well unless it is altered."""
    steps = [
        {"step": name, "passed": True, "evidence": f"{name} seen", "seconds": 1.0}
        for name in ("run migrations", "create quote", "order completed")
    ]
    return {
        "state": "written",
        "key": str(control.key),
        "is_rehearsed": False,
        "migrations": {"data": {"pending": ["0031_expand_a"], "applied": 30}},
        "contracts": {
            "data": {"compared": ["cpq-oms-2031.01.04-001"], "findings": [{}, {}]},
            "problems": [],
            "checks": [],
        },
        "installed": {"api-1": {"api": control.subject.release_id}, "relay-1": {"relay": control.subject.release_id}},
        "smoke": steps,
        **changes,
    }


def held(control: Control, **changes: Any) -> bool:
    given = {"key": str(control.key), "is_rehearsed": False, **changes}
    return bool(control.ask(release_evidence, **given)["is_held"])


def test_a_proven_release_leaves_evidence_that_holds(control: Control) -> None:
    assert not held(control)

    written = control.ask(release_evidence, **proof(control))

    assert (written["changed"], Path(written["path"]).is_file()) == (False, True)
    assert Path(written["path"]) == control.evidence / control.subject.release_id / "staging/release.json"
    assert held(control)
    document = json.loads(Path(written["path"]).read_text())
    assert {kind: (part["result"], part["summary"]) for kind, part in document["parts"].items()} == {
        "build": ("passed", f"{control.subject.release_id} of commit cccccccccccc, build {control.subject.build_id}"),
        "migration": ("passed", "run migrations seen"),
        "contracts": ("passed", "2 differences beside cpq-oms-2031.01.04-001, none breaks"),
        "manifest": ("passed", "2 deployables on 2 hosts"),
        "smoke": ("passed", "3 of 3 steps passed"),
    }
    assert document["inventory_sha256"] == digest(ROOT / "inventories/staging")


def test_a_rehearsal_leaves_evidence_of_its_own_and_none_of_the_environment(control: Control) -> None:
    written = control.ask(release_evidence, **proof(control, is_rehearsed=True))

    assert Path(written["path"]).name == "rehearsal.json"
    assert held(control, is_rehearsed=True)
    assert not held(control)
    # Another inventory than the one that was rehearsed is another rehearsal.
    assert not held(control, is_rehearsed=True, inventory=str(ROOT / "inventories/prod"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"smoke": []}, "migration: nobody looked at them; smoke: 0 of 0 steps passed"),
        (
            {"smoke": [{"step": "run migrations", "passed": False, "evidence": "0030 is missing"}]},
            "migration: 0030 is missing",
        ),
        ({"installed": {}}, "manifest: 0 deployables on 0 hosts"),
        (
            {"installed": {"api-1": {"api": "cpq-oms-2031.01.04-001"}}},
            "manifest: differs: api-1: api cpq-oms-2031.01.04-001",
        ),
        ({"installed": {"api-1": {"api": ""}}}, "manifest: differs: api-1: api nothing"),
        (
            {"contracts": {"data": {"compared": [], "findings": []}, "problems": ["breaks"], "checks": []}},
            "contracts: ",
        ),
    ],
)
def test_no_evidence_is_left_of_what_is_not_proven(control: Control, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleActionFail) as refused:
        control.ask(release_evidence, **proof(control, **changes))

    assert said in str(refused.value)
    assert not control.evidence.exists()


def test_check_mode_leaves_no_evidence(control: Control) -> None:
    assert not control.ask(release_evidence, check=True, **proof(control))["changed"]
    assert not control.evidence.exists()


@pytest.mark.parametrize("environment", ["staging", "ci"])
def test_evidence_that_has_expired_or_is_of_another_key_does_not_hold(
    control: Control, tmp_path: Path, environment: str
) -> None:
    path = Path(control.ask(release_evidence, **proof(control), environment=environment)["path"])
    found = evidence_files.read(control.evidence, control.subject.release_id, (environment, RELEASE), control.signers)
    assert found is not None
    document: Any = found.document
    old: dict[Any, Part] = {kind: replace(part, at=NOW - timedelta(days=400)) for kind, part in document.parts.items()}
    ensure_key(tmp_path / "other")

    control.write((environment, RELEASE), replace(document, parts=old))
    assert held(control, environment=environment) is (environment == "ci")
    control.write((environment, RELEASE), document, tmp_path / "other")
    assert not held(control, environment=environment)
    assert path.exists()


def test_a_folder_that_cannot_be_written_is_named(control: Control) -> None:
    control.evidence.write_text("")

    with pytest.raises(AnsibleActionFail, match=r"cpq_evidence_dir: .*: Not a directory"):
        control.ask(release_evidence, **proof(control))


def test_the_tasks_of_the_release_give_what_the_plugin_asks_for(control: Control) -> None:
    """As they are in release.yml, on hosts that are only described: evidence is missing, is left, and holds."""
    plays = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())
    [look] = [task for task in plays[0]["tasks"] if "release_evidence" in task]
    [leave] = [task for task in plays[-1]["tasks"] if "release_evidence" in task]
    assert leave["release_evidence"]["state"] == "written"
    given = proof(control)
    facts = {
        "__release_preflight": {
            "bundle": str(control.bundle),
            "release_id": control.subject.release_id,
            "units": ["api"],
        }
    }
    compared = {"__release_compared": {"by_command": {"contracts compare": given["contracts"]}}}
    on_admin = {
        "__release_plans": {"migrate plan": given["migrations"]},
        "__release_is_pending": True,
        "__release_is_unproven": False,
        "smoke_result": {"steps": given["smoke"]},
    }
    installed = {"release_after": {"installed": {"api": control.subject.release_id}}}
    state = control.folder / "state"
    state.mkdir()
    inventory = {
        "all": {
            "vars": {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "cpq_env": "trial",
                "cpq_state_dir": str(state),
                "cpq_evidence_dir": str(control.evidence),
                "release_signing_key": str(control.key),
                "release_signers": control.signers,
                "release_changed": True,
            },
            "children": {"admin": {"hosts": {"one-1": {**on_admin, **installed}}}, "api": {"hosts": {"one-1": {}}}},
        }
    }
    folder = control.folder / "inventory"
    folder.mkdir()
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def play(hosts: str, *tasks: dict[str, Any]) -> dict[str, Any]:
        variables = [str(ROOT / "playbooks/release/vars.yml")]
        return {"hosts": hosts, "gather_facts": False, "vars_files": variables, "tasks": list(tasks)}

    describe = {"ansible.builtin.set_fact": {**facts, **compared}}
    say = {"ansible.builtin.debug": {"msg": "evidenced: {{ release_is_evidenced }}"}}
    book = [
        play("localhost", describe, look),
        play("admin[0]", say, leave),
        play("localhost", look),
        play("admin[0]", say),
    ]
    path = control.folder / "play.yml"
    path.write_text(yaml.safe_dump(book, sort_keys=False))

    status, output = control.play(str(path), str(folder))

    assert status == 0, output
    assert re.findall(r"evidenced: (\w+)", output) == ["False", "True"]
    document = json.loads((control.evidence / control.subject.release_id / "trial/release.json").read_text())
    assert document["parts"]["manifest"]["shown"]["installed"] == {"one-1": {"api": control.subject.release_id}}
    assert document["inventory_sha256"] == digest(folder)


def test_a_rehearsals_state_is_what_tells_it_from_the_environment() -> None:
    """The file that only playbooks/secrets.yml of a rehearsal writes is the one that release.yml looks for."""
    variables = yaml.safe_load((ROOT / "playbooks/release/vars.yml").read_text())
    [play] = yaml.safe_load((ROOT / "playbooks/secrets.yml").read_text())
    [written] = [task for task in play["tasks"] if "ansible.builtin.copy" in task]

    assert "cpq_rehearsal" in written["when"]
    destination = re.sub(r"{{ (\w+) }}/(.*)", r"(\1 ~ '/\2')", written["ansible.builtin.copy"]["dest"])
    assert variables["release_is_rehearsed"] == f"{{{{ {destination} is file }}}}"
