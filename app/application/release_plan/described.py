"""What a plan is made from: a release as its files say, and an environment as it answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.application.migration_header import Header, phase_of, read_header
from app.application.process_versions import LiveWorker, ReachedProcess
from app.contracts.compatibility import events
from app.contracts.compatibility.interfaces import DECLARATIONS, PARTS, Files, Interfaces
from app.contracts.loader import ReleasePart


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration of a bundle.

    Args:
        name: its file's, without .sql.
        phase: expand, backfill or contract.
        content_sha256: hash of the file.
        header: what its head says.
    """

    name: str
    phase: str
    content_sha256: str
    header: Header = field(default_factory=Header)


@dataclass(frozen=True, slots=True)
class Process:
    """One process version of a bundle, as its BPMN and processes.yml say."""

    process_id: str
    file: str
    content_sha256: str
    job_types: tuple[str, ...]
    variables_schema_version: int
    oldest_compatible_worker: str


@dataclass(frozen=True)
class Described:
    """One release: its documents by part and file name, of PARTS and DECLARATIONS."""

    release_id: str
    documents: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @property
    def interfaces(self) -> Interfaces:
        """What others rely on."""
        return Interfaces({part: files for part, files in self.documents.items() if part in PARTS})

    def declared(self, part: str) -> Mapping[str, Any] | None:
        """One declaration; None where the release is from before it was laid open."""
        return next(iter(self.documents.get(part, {}).values()), None)

    @property
    def generation(self) -> int | None:
        """Its generation; None where it is from before there were any."""
        path = self.declared("path")
        return None if path is None else int(path["generation"])


@dataclass(frozen=True)
class Bundle:
    """What is to be released.

    Args:
        release: its documents.
        units: the deployables that it holds.
        processes: by process id.
        migrations: in their order; None where the bundle is from before it carried them.
    """

    release: Described
    units: frozenset[str]
    processes: tuple[Process, ...]
    migrations: tuple[Migration, ...] | None


@dataclass(frozen=True)
class Applied:
    """A migration that the database has: its hash, and the release that applied it."""

    content_sha256: str
    release_id: str


@dataclass(frozen=True)
class Live:
    """What `release live` said of an environment; what it did not say is None, and not judged.

    Args:
        workers: those that are alive.
        reached: process versions that orders can still reach, with how many instances.
        deployed: content hashes that the engine has, by process id.
        migrations: applied ones, by name.
        begun: how far backfills are that were begun, in words, by name.
    """

    workers: tuple[LiveWorker, ...] = ()
    reached: tuple[ReachedProcess, ...] | None = None
    deployed: Mapping[str, tuple[str, ...]] | None = None
    migrations: Mapping[str, Applied] | None = None
    begun: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Surroundings:
    """What the inventory and its hosts say.

    Args:
        installed: the releases that are installed on some host, the bundle's own among them where it is.
        units: by deployable, the releases of it that are installed.
        given: settings that the inventory gives, by unit; None where there is no inventory.
        hosts: by tier.
        differs: hosts on which an artifact, a unit or a setting differs from the bundle; None where nobody has looked.
        parts: hosts that this release treats on their own, by what they are to it.
        owner, window, approvers: who answers for the release, when it is, and who agreed.
        way_back_to: the release that live data was asked for and that may run again; empty where nobody asked, or it may not.
    """

    installed: tuple[Described, ...] = ()
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    given: Mapping[str, tuple[str, ...]] | None = None
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    differs: frozenset[str] | None = None
    parts: Mapping[ReleasePart, frozenset[str]] = field(default_factory=dict)
    owner: str = ""
    window: str = ""
    approvers: str = ""
    way_back_to: str = ""


def described(release_id: str, files: Files) -> Described:
    """Read the files of any release.

    Raises:
        ValueError: one is malformed, or topics or events are missing; the message names it.
    """
    for part in ("topics", "events"):
        if not files.get(part):
            raise ValueError(f"{release_id}: there is no {PARTS[part]}")
    known = {*PARTS, *DECLARATIONS}
    return Described(
        release_id,
        {
            part: {name: events.mapping(name, text) for name, text in sorted(texts.items())}
            for part, texts in sorted(files.items())
            if part in known and texts
        },
    )


def migration(name: str, text: str, content_sha256: str) -> Migration:
    """Read what a migration says of itself.

    Raises:
        ValueError: its name has no number and phase, or its head is malformed.
    """
    phase = phase_of(name)
    if phase is None:
        raise ValueError(f"migrations/{name}.sql: expected NNNN_<expand|backfill|contract>_<words>.sql")
    return Migration(name, phase, content_sha256, read_header(name, text))
