"""Processes against their contracts: what the engine would hand out must be what workers serve, under ids that speak."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from app.adapters.zeebe.process_definitions import read_definitions
from app.contracts import process_variables
from app.contracts.loader import load_job_types, load_processes, load_units
from app.contracts.process_variables import VERSIONS, names
from app.entrypoints.worker.job_handler import ORDER_REFUSED, VARIABLE_NAMES
from app.entrypoints.worker.jobs import activate_billing, provision_service, reserve_inventory
from app.entrypoints.worker.registry import JOBS

ROOT = Path(__file__).resolve().parents[2]
BPMN = ROOT / "bpmn"
VARIABLES = ROOT / "app" / "contracts" / "variables"
SAMPLES = Path(__file__).parent / "variables"
FILES = sorted(BPMN.glob("*.bpmn"))
DECLARED = load_processes()

_MODEL = "{http://www.omg.org/spec/BPMN/20100524/MODEL}"
_ZEEBE = "{http://camunda.org/schema/zeebe/1.0}"

PREFIXES = {
    "startEvent": "StartEvent_",
    "endEvent": "EndEvent_",
    "boundaryEvent": "BoundaryEvent_",
    "serviceTask": "Task_",
    "exclusiveGateway": "Gateway_",
    "parallelGateway": "Gateway_",
    "sequenceFlow": "SequenceFlow_",
    "message": "Message_",
    "error": "Error_",
}


@dataclass
class Process:
    """What the tests ask of one file."""

    process_id: str
    elements: dict[str, str] = field(default_factory=dict)
    task_types: dict[str, str] = field(default_factory=dict)
    retries: dict[str, str] = field(default_factory=dict)
    names: dict[str, str | None] = field(default_factory=dict)
    flows: list[tuple[str, str]] = field(default_factory=list)
    start_messages: list[str] = field(default_factory=list)
    error_codes: list[str] = field(default_factory=list)


def parse(text: str) -> Process:
    root = ET.fromstring(text)
    executable = root.find(f"{_MODEL}process")
    assert executable is not None
    process = Process(executable.attrib["id"])
    messages = {element.attrib["id"]: element.attrib["name"] for element in root.iter(f"{_MODEL}message")}
    process.error_codes = [element.attrib["errorCode"] for element in root.iter(f"{_MODEL}error")]
    for kind in PREFIXES:
        for element in root.iter(f"{_MODEL}{kind}"):
            process.elements[element.attrib["id"]] = kind
            process.names[element.attrib["id"]] = element.get("name")
            if kind == "sequenceFlow":
                process.flows.append((element.attrib["sourceRef"], element.attrib["targetRef"]))
            if kind == "startEvent":
                definition = element.find(f"{_MODEL}messageEventDefinition")
                process.start_messages.append(
                    messages[definition.attrib["messageRef"]] if definition is not None else ""
                )
            task = element.find(f"{_MODEL}extensionElements/{_ZEEBE}taskDefinition")
            if task is not None:
                process.task_types[element.attrib["id"]] = task.attrib["type"]
                process.retries[task.attrib["type"]] = task.attrib["retries"]
    return process


def task_id(job_type: str) -> str:
    return "Task_" + "".join(word.capitalize() for word in job_type.split("-"))


def id_problems(process: Process) -> list[str]:
    return [
        f"{element_id}: a {kind} is named {PREFIXES[kind]}<Words>"
        for element_id, kind in process.elements.items()
        if not re.fullmatch(PREFIXES[kind] + r"([A-Z][a-z0-9]*)+", element_id)
    ] + [
        f"{element_id}: serves {job_type}, so its id is {task_id(job_type)}"
        for element_id, job_type in process.task_types.items()
        if element_id != task_id(job_type)
    ]


processes = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_contract_and_files_name_each_other() -> None:
    assert [definition.file.name for definition in read_definitions(BPMN, DECLARED)] == [file.name for file in FILES]


@processes
def test_the_process_is_named_as_its_file(file: Path) -> None:
    assert parse(file.read_text()).process_id == file.stem


@processes
def test_ids_follow_the_rule(file: Path) -> None:
    assert id_problems(parse(file.read_text())) == []


def test_the_rule_sees_a_generated_id() -> None:
    text = FILES[0].read_text().replace("Task_CompleteOrder", "Activity_1x2y3z")

    assert id_problems(parse(text)) == [
        "Activity_1x2y3z: a serviceTask is named Task_<Words>",
        "Activity_1x2y3z: serves complete-order, so its id is Task_CompleteOrder",
    ]


@processes
def test_what_a_person_sees_has_a_name(file: Path) -> None:
    process = parse(file.read_text())

    nameless = [name for name, kind in process.elements.items() if kind != "sequenceFlow" and not process.names[name]]

    assert nameless == []


@processes
def test_every_job_type_is_declared_with_its_retries_and_served(file: Path) -> None:
    process, contract = parse(file.read_text()), load_job_types()

    assert {name: str(contract.job_types[name].retries) for name in process.retries} == process.retries
    assert set(process.retries) <= set(JOBS)


@processes
def test_it_starts_by_the_message_that_the_starter_publishes(file: Path) -> None:
    process = parse(file.read_text())

    assert process.start_messages == [f"{process.process_id}.start"]
    assert DECLARED.processes[process.process_id].start_message == f"{process.process_id}.start"


@processes
def test_every_element_is_on_a_path_from_start_to_end(file: Path) -> None:
    process = parse(file.read_text())
    root = ET.fromstring(file.read_text())
    flows = set(process.flows)
    flows |= {(event.attrib["attachedToRef"], event.attrib["id"]) for event in root.iter(f"{_MODEL}boundaryEvent")}
    nodes = {name for name, kind in process.elements.items() if kind not in {"sequenceFlow", "message", "error"}}
    starts = {name for name in nodes if process.elements[name] == "startEvent"}
    ends = {name for name in nodes if process.elements[name] == "endEvent"}

    assert reach(starts, flows) == nodes
    assert reach(ends, {(target, source) for source, target in flows}) == nodes


def reach(start: set[str], flows: set[tuple[str, str]]) -> set[str]:
    reached, frontier = set(start), set(start)
    while frontier:
        frontier = {target for source, target in flows if source in frontier} - reached
        reached |= frontier
    return reached


@processes
def test_errors_are_those_that_workers_throw(file: Path) -> None:
    assert set(parse(file.read_text()).error_codes) <= {ORDER_REFUSED}


@processes
def test_the_variables_schema_is_of_a_version_that_workers_understand(file: Path) -> None:
    declared = DECLARED.processes[file.stem]
    schema = json.loads((VARIABLES / declared.variables_schema).read_text())

    assert schema["properties"]["schemaVersion"]["const"] == declared.variables_schema_version
    assert declared.variables_schema_version in load_job_types().variables_schema_versions
    assert set(schema["required"]) == set(schema["properties"]) == names(declared.variables_schema_version)
    assert set(schema["properties"]) <= set(VARIABLE_NAMES)


def test_the_code_understands_the_versions_that_the_contract_declares_and_no_other() -> None:
    assert set(VERSIONS) == set(load_job_types().variables_schema_versions)


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda sample: sample.stem)
def test_variables_of_instances_that_may_still_run_can_be_read(sample: Path) -> None:
    """What earlier releases started. A file goes when the last process with its version of variables is retired."""
    variables = json.loads(sample.read_text())

    assert str(process_variables.read(variables).order_id) == variables["orderId"]


def test_each_version_of_variables_has_a_sample_of_a_real_instance() -> None:
    versions = [json.loads(sample.read_text())["schemaVersion"] for sample in SAMPLES.glob("*.json")]

    assert sorted(versions) == sorted(VERSIONS)


def test_the_code_serves_what_the_contract_declares_and_nothing_else() -> None:
    assert set(JOBS) == set(load_job_types().job_types)


def test_jobs_call_the_system_that_the_contract_names() -> None:
    contract = load_job_types().job_types
    called = {job.JOB_TYPE: job.SYSTEM for job in (reserve_inventory, provision_service, activate_billing)}

    assert called == {name: job.external_system for name, job in contract.items() if job.external_system}


def test_worker_instances_are_the_groups() -> None:
    assert set(load_units()["worker"].instances) == set(load_job_types().groups)
