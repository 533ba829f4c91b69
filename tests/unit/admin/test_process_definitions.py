"""BPMN files and their contract agree, and each job type has somebody who serves it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.adapters.zeebe.process_definitions import ProcessFilesError, misunderstood, read_definitions, unserved
from app.application.process_versions import is_older
from app.contracts.loader import load_processes

BPMN = Path(__file__).resolve().parents[3] / "bpmn"
DECLARED = load_processes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in BPMN.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    return tmp_path


def test_a_definition_has_its_job_types_and_a_hash_of_its_content(folder: Path) -> None:
    definition, second = read_definitions(folder, DECLARED)

    assert (definition.process_id, second.process_id) == ("order-fulfillment-v1", "order-fulfillment-v2")
    assert definition.job_types == ("reserve-inventory", "provision-service", "activate-billing", "complete-order")
    path = folder / "order-fulfillment-v1.bpmn"
    path.write_text(path.read_text() + "\n")
    assert read_definitions(folder, DECLARED)[0].content_sha256 != definition.content_sha256


def test_what_nobody_serves_is_named_with_its_file(folder: Path) -> None:
    served = ["reserve-inventory", "activate-billing", "complete-order"]

    assert unserved(read_definitions(folder, DECLARED), served) == [
        f"job type provision-service of order-fulfillment-v{version}.bpmn is served by no worker" for version in (1, 2)
    ]


def test_variables_that_no_worker_understands_are_named_with_their_file(folder: Path) -> None:
    assert misunderstood(read_definitions(folder, DECLARED), [1, 2]) == []
    assert misunderstood(read_definitions(folder, DECLARED), [3, 1]) == [
        "order-fulfillment-v2.bpmn has version 2 of its variables, and workers understand 1, 3"
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('type="provision-service"', 'type="levitate"', "its job types and those of processes.yml differ in levitate"),
        ('<bpmn:process id="order-fulfillment-v1"', '<bpmn:process id="other"', "its process is other"),
        ('isExecutable="true"', 'isExecutable="false"', "expected one executable process, found 0"),
        ("</bpmn:definitions>", "", "no element found"),
    ],
)
def test_a_spoilt_file_is_refused_by_its_name(folder: Path, old: str, new: str, problem: str) -> None:
    path = folder / "order-fulfillment-v1.bpmn"
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(ProcessFilesError) as refused:
        read_definitions(folder, DECLARED)

    assert any(text.startswith("order-fulfillment-v1.bpmn: ") and problem in text for text in refused.value.problems)


def test_a_file_that_nobody_registered_is_refused(folder: Path) -> None:
    shutil.copy(folder / "order-fulfillment-v1.bpmn", folder / "order-stray-v1.bpmn")

    with pytest.raises(ProcessFilesError, match=r"order-stray-v1.bpmn: not in processes.yml"):
        read_definitions(folder, DECLARED)


@pytest.mark.parametrize(
    ("release_id", "older"),
    [
        ("cpq-oms-2026.11.21-500", True),
        ("cpq-oms-2026.11.22-009", True),
        ("cpq-oms-2026.11.22-010", False),
        ("cpq-oms-2026.11.22-1000", False),
        ("cpq-oms-2026.11.22-009-d02ee7c15", True),
        ("unreleased", False),
    ],
)
def test_releases_are_compared_by_date_and_number(release_id: str, older: bool) -> None:
    assert is_older(release_id, "cpq-oms-2026.11.22-010") is older
