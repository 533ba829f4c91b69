"""Reads what a plan is made from: a bundle's folder, and the description of an environment that release.yml gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.adapters.zeebe.process_definitions import read_definitions
from app.application.process_versions import LiveWorker, ReachedProcess
from app.application.release_plan.described import (
    Applied,
    Bundle,
    Live,
    Migration,
    Process,
    Surroundings,
    described,
    migration,
)
from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS
from app.contracts.loader import ReleasePart, load_processes

_Model = TypeVar("_Model", bound=BaseModel)


class _Live(BaseModel):
    """What `release live` said; nothing where it could not say anything, as before a first release."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    workers: tuple[LiveWorker, ...] = ()
    reached: tuple[ReachedProcess, ...] | None = None
    deployed: Mapping[str, tuple[str, ...]] | None = None
    migrations: Mapping[str, Applied] | None = None


class _Environment(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    installed: Mapping[str, Mapping[str, Mapping[str, str]]]
    units: Mapping[str, tuple[str, ...]] = {}
    given: Mapping[str, tuple[str, ...]] | None = None
    live: _Live = _Live()
    hosts: Mapping[str, tuple[str, ...]] = {}
    differs: frozenset[str] | None = None
    parts: Mapping[ReleasePart, frozenset[str]] = {}
    owner: str = ""
    window: str = ""
    approvers: str = ""
    way_back_to: str = ""


class _Former(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    release_id: str
    units: frozenset[str]
    files: Mapping[str, Mapping[str, str]]
    migrations: tuple[str, ...] | None = None


class _Rollback(BaseModel):
    """What a playbook of another release than these commands may give: what they do not know is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    installed: Mapping[str, Mapping[str, Mapping[str, str]]] = Field(min_length=1)
    units: Mapping[str, tuple[str, ...]] = {}
    given: Mapping[str, tuple[str, ...]] | None = None
    hosts: Mapping[str, tuple[str, ...]] = {}
    owner: str = ""
    former: _Former
    attested: str = ""


@dataclass(frozen=True)
class Rollback:
    """Which release is to run again, where, and who answers for what no data can say."""

    former: Bundle
    around: Surroundings
    attested: str


def read_bundle(folder: Path) -> Bundle:
    """Read manifest, contracts/, bpmn/ and migrations/ of a bundle.

    Raises:
        OSError: there is no manifest.
        ValueError: a file is malformed; the message names it.
        ContractError, ProcessFilesError: processes.yml or a BPMN is.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    contracts = folder / "contracts"
    files = {
        part: {path.name: path.read_text(encoding="utf-8") for path in contracts.glob(pattern)}
        for part, pattern in {**PARTS, **DECLARATIONS}.items()
    }
    definitions = read_definitions(folder / "bpmn", load_processes(contracts))
    processes = tuple(
        Process(
            each.process_id,
            each.file.name,
            each.content_sha256,
            each.job_types,
            each.variables_schema_version,
            each.oldest_compatible_worker,
        )
        for each in definitions
    )
    release = described(manifest["release_id"], files)
    return Bundle(release, frozenset(manifest["units"]), processes, read_migrations(folder / "migrations"))


def read_environment(document: Any, operator: str) -> tuple[Live, Surroundings]:
    """Read what release.yml says of an environment.

    Raises:
        ValueError: it is no such description; the message names the field.
    """
    given = _validated(_Environment, document)
    live = Live(given.live.workers, given.live.reached, given.live.deployed, given.live.migrations)
    installed = tuple(described(release_id, files) for release_id, files in sorted(given.installed.items()))
    around = Surroundings(
        installed,
        given.units,
        given.given,
        given.hosts,
        given.differs,
        given.parts,
        given.owner or operator,
        given.window,
        given.approvers,
        given.way_back_to,
    )
    return live, around


def read_rollback(document: Any, operator: str) -> Rollback:
    """Read what rollback.yml says of an environment and of the release that is to run again.

    Raises:
        ValueError: it is no such description; the message names the field.
    """
    given = _validated(_Rollback, document)
    names = given.former.migrations
    former = Bundle(
        described(given.former.release_id, given.former.files),
        given.former.units,
        (),
        None if names is None else tuple(migration(name, "", "") for name in names),
    )
    installed = tuple(described(release_id, files) for release_id, files in sorted(given.installed.items()))
    around = Surroundings(installed, given.units, given.given, given.hosts, owner=given.owner or operator)
    return Rollback(former, around, given.attested.strip())


def _validated(model: type[_Model], document: Any) -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the input"
        raise ValueError(f"{place}: {first['msg']}") from error


def read_migrations(folder: Path) -> tuple[Migration, ...] | None:
    """Read the migrations of a bundle or an installation, in their order; None where it has none.

    Raises:
        ValueError: a file's name has no number and phase.
    """
    if not folder.is_dir():
        return None
    return tuple(
        migration(path.stem, path.read_text(encoding="utf-8"), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.glob("[0-9]*.sql"))
        if not path.name.endswith(".rollback.sql")
    )
