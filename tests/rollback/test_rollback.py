"""Back to the release before where live data allows it; where it does not, nothing is touched and the way forward is said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.bundles import reissued, seal
from tests.topology.release.conftest import ROOT, Environment, Run

ROLLBACK = ("rollback.yml",)
NEW_PROCESS = "order-fulfillment-v2"
SOME_ORDER = "SELECT order_id FROM cpq.workflow_reference WHERE state = 'completed' ORDER BY requested_at LIMIT 1"
PLAYS_THAT_ACT = ("Install the operators' commands first", "Check the platform, open the journal")


def release_id(bundle: Path) -> str:
    found: str = json.loads((bundle / "manifest.json").read_text())["release_id"]
    return found


def running(environment: Environment) -> set[str]:
    """The releases that are current on the host, whatever unit they are of."""
    links = environment.host.run("for link in /opt/cpq-oms/*/current; do readlink -f $link; done").stdout
    return {Path(line).name for line in links.split()}


@pytest.fixture(scope="module")
def newer(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host runs a later release: the same content under the id of the next commit. Afterwards it runs the former again."""
    bundle = tmp_path_factory.mktemp("later") / "bundle"
    newer = reissued(environment.bundle, bundle)
    run = environment.release("-e", f"release_bundle={bundle}")
    assert run.code == 0, run.output
    yield newer
    if running(environment) != {release_id(environment.bundle)}:
        run = go_back(environment)
        assert run.code == 0, run.output


def go_back(environment: Environment, *extra: str) -> Run:
    """Roll back to what is on record; a bundle that does not lie where bundles are built has to be named."""
    named = [] if environment.bundle.parent == ROOT / "dist" else ["-e", f"rollback_bundle={environment.bundle}"]
    return environment.release(*(extra or named), playbooks=ROLLBACK)


@pytest.fixture
def without_new_process(environment: Environment, tmp_path: Path) -> Path:
    """The former release as it would be had the later one brought a process with its own version of variables."""
    bundle = environment.copied_bundle(tmp_path / "bundle")
    processes = bundle / "contracts/processes.yml"
    document = yaml.safe_load(processes.read_text())
    file = document["processes"].pop(NEW_PROCESS)["file"]
    processes.write_text(yaml.safe_dump(document))
    (bundle / "bpmn" / file).unlink()
    job_types = bundle / "contracts/job_types.yml"
    declared = yaml.safe_load(job_types.read_text())
    declared["variables_schema_versions"] = [1]
    job_types.write_text(yaml.safe_dump(declared))
    seal(bundle)
    return bundle


def test_an_order_on_the_new_process_refuses_the_rollback_by_its_id(
    environment: Environment, newer: str, without_new_process: Path
) -> None:
    [order] = environment.sql(SOME_ORDER)
    at = f"WHERE order_id = '{order}'"
    [process] = environment.sql(f"SELECT process_id FROM cpq.workflow_reference {at}")
    pids, runs = environment.main_pids(), environment.sql("SELECT count(*) FROM cpq.release_run")

    with environment.statement(
        f"UPDATE cpq.workflow_reference SET process_id = '{NEW_PROCESS}', state = 'started' {at}",
        f"UPDATE cpq.workflow_reference SET process_id = '{process}', state = 'completed' {at}",
    ):
        run = go_back(environment, "-e", f"rollback_bundle={without_new_process}")

    assert run.code != 0
    # The oldest comes first, whatever other tests have left.
    assert re.search(rf"do not serve {NEW_PROCESS}: variables 2 \([0-9]+: {order}", run.output), run.output
    assert f"Go forward: build a bundle that is later than {newer}" in run.output
    assert f"it must serve {NEW_PROCESS}" in run.output
    assert run.changed == 0
    assert not [play for play in PLAYS_THAT_ACT if play in run.output]
    assert environment.main_pids() == pids
    assert running(environment) == {newer}
    assert environment.sql("SELECT count(*) FROM cpq.release_run") == runs


def test_a_release_is_no_way_around_it(environment: Environment, newer: str) -> None:
    pids = environment.main_pids()

    run = environment.release()

    former = release_id(environment.bundle)
    assert run.code != 0
    assert f"rollback-without-verdict: {former} was made before {newer}" in run.output
    assert f"rollback.yml -i ENV -e rollback_to={former}" in run.output
    assert run.changed == 0
    assert environment.main_pids() == pids


def test_a_rollback_takes_no_bundle_of_a_release(environment: Environment) -> None:
    run = environment.release("-e", f"release_bundle={environment.bundle}", playbooks=ROLLBACK)

    assert run.code != 0
    assert "release_bundle: a rollback finds its bundle by the record of releases" in run.output
    assert run.changed == 0


def test_the_release_before_runs_again_and_is_proven_and_on_record(environment: Environment, newer: str) -> None:
    former = release_id(environment.bundle)
    installed = environment.host.run("stat -c '%n %Y' /opt/cpq-oms/*/releases/*").stdout
    began = time.monotonic()

    run = go_back(environment)

    seconds = time.monotonic() - began
    assert run.code == 0, run.output
    print(f"the release before ran again, proven, after {seconds:.1f} s")
    assert running(environment) == {former}
    assert environment.host.run("stat -c '%n %Y' /opt/cpq-oms/*/releases/*").stdout == installed, (
        "it installed something"
    )
    shown = environment.admin("release", "show")["data"]
    entries = {(entry["step"], entry["state"]) for entry in shown["entries"]}
    assert shown["release"] == former
    assert {("rollback", "succeeded"), ("smoke", "succeeded"), ("release", "succeeded")} <= entries
    evidence = environment.sql(
        "SELECT evidence ->> 'evidence' FROM cpq.release_step WHERE step = 'rollback' ORDER BY started_at DESC LIMIT 1"
    )
    said = json.loads(evidence[0])
    assert (said["former"], said["running"], said["way"]) == (former, newer, "possible")

    again = environment.release()
    assert (again.code, again.changed) == (0, 0), again.output
