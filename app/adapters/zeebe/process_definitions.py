"""Reads the bundle's BPMN files and holds them to processes.yml: which job types each process emits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from app.application.operations import OperationError
from app.application.process_versions import ProcessDeployment
from app.contracts.loader import Processes
from app.runtime.release import Release

_BPMN = "{http://www.omg.org/spec/BPMN/20100524/MODEL}"
_ZEEBE = "{http://camunda.org/schema/zeebe/1.0}"


class ProcessFilesError(OperationError):
    """BPMN files and processes.yml disagree, or a file cannot be read; `problems` has a line for each."""


@dataclass(frozen=True)
class ProcessDefinition:
    """One executable process of the bundle."""

    process_id: str
    file: Path
    content: bytes
    job_types: tuple[str, ...]
    variables_schema_version: int
    oldest_compatible_worker: str

    @property
    def content_sha256(self) -> str:
        """The hash that tells whether the engine has this very content."""
        return hashlib.sha256(self.content).hexdigest()

    def as_deployed(self, engine_version: int, engine_key: int, release: Release) -> ProcessDeployment:
        """What is recorded of it once the engine has answered."""
        return ProcessDeployment(
            process_id=self.process_id,
            content_sha256=self.content_sha256,
            engine_version=engine_version,
            engine_key=engine_key,
            job_types=list(self.job_types),
            variables_schema_version=self.variables_schema_version,
            compatible_worker_release=self.oldest_compatible_worker,
            git_commit=release.git_commit,
            release_id=release.release_id,
        )


def read_definitions(directory: Path, declared: Processes) -> list[ProcessDefinition]:
    """Read every process that processes.yml names, by process id.

    Raises:
        ProcessFilesError: a file is missing, malformed or not declared, or emits other job types than declared.
    """
    definitions: list[ProcessDefinition] = []
    problems: list[str] = []
    for process_id, process in sorted(declared.processes.items()):
        path = directory / process.file
        try:
            content = path.read_bytes()
            found_id, job_types = _parse(content)
        except OSError as error:
            problems.append(f"{path.name}: {error.strerror}")
            continue
        except (ET.ParseError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
            continue
        if found_id != process_id:
            problems.append(f"{path.name}: its process is {found_id}, declared is {process_id}")
        if set(job_types) != set(process.job_types):
            difference = ", ".join(sorted(set(job_types) ^ set(process.job_types)))
            problems.append(f"{path.name}: its job types and those of processes.yml differ in {difference}")
        definitions.append(
            ProcessDefinition(
                process_id=process_id,
                file=path,
                content=content,
                job_types=job_types,
                variables_schema_version=process.variables_schema_version,
                oldest_compatible_worker=process.oldest_compatible_worker,
            )
        )
    files = {process.file for process in declared.processes.values()}
    problems += [
        f"{path.name}: not in processes.yml" for path in sorted(directory.glob("*.bpmn")) if path.name not in files
    ]
    if problems:
        raise ProcessFilesError(*problems)
    return definitions


def unserved(definitions: Iterable[ProcessDefinition], served: Iterable[str]) -> list[str]:
    """Name every job type that none of `served` is, with the file that emits it."""
    known = set(served)
    return [
        f"job type {job_type} of {definition.file.name} is served by no worker"
        for definition in definitions
        for job_type in definition.job_types
        if job_type not in known
    ]


def misunderstood(definitions: Iterable[ProcessDefinition], versions: Iterable[int]) -> list[str]:
    """Name every process whose version of variables is none of `versions`, those that its workers understand."""
    known = sorted(set(versions))
    return [
        f"{definition.file.name} has version {definition.variables_schema_version} of its variables, "
        f"and workers understand {', '.join(map(str, known))}"
        for definition in definitions
        if definition.variables_schema_version not in known
    ]


def _parse(content: bytes) -> tuple[str, tuple[str, ...]]:
    root = ET.fromstring(content)  # noqa: S314 - a file of the bundle, hash-checked when it was installed
    processes = [element for element in root.iter(f"{_BPMN}process") if element.get("isExecutable") == "true"]
    if len(processes) != 1:
        raise ValueError(f"expected one executable process, found {len(processes)}")
    job_types = [element.get("type", "") for element in processes[0].iter(f"{_ZEEBE}taskDefinition")]
    return processes[0].get("id", ""), tuple(dict.fromkeys(job_types))
