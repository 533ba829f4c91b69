"""Bundles: the same commit gives the same bytes anywhere, and each artifact holds what it declares and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import uuid
import zipfile
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from artifact_build.declaration import read_declarations
from artifact_build.inspection import inspect
from artifact_build.refusal import RefusedError
from artifact_build.signature import ensure_key, public_key_of
from artifact_build.wheelhouse import read_lock
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from app.application.migration_header import read_header
from roles.app_release.module_utils import bundle_verification

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "app/contracts"
BUILDER = ROOT / "roles/artifact_build/files"
CACHE = Path("/var/cache/cpq-oms")
# Where and when the two builds are made that must not differ.
HERE = {"TZ": "UTC", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
ELSEWHERE = {"TZ": "Pacific/Chatham", "LANG": "POSIX", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
YEARS = 7
# The clock of every Python program that loads it.
SHIFTED_CLOCK = f"""
import datetime
import time

SHIFT = {YEARS} * 365 * 86400 + 12345
_time, _time_ns, _gettime = time.time, time.time_ns, time.clock_gettime
_gmtime, _localtime, _strftime = time.gmtime, time.localtime, time.strftime
time.time = lambda: _time() + SHIFT
time.time_ns = lambda: _time_ns() + SHIFT * 10**9
time.clock_gettime = lambda clock: _gettime(clock) + (SHIFT if clock == time.CLOCK_REALTIME else 0)
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
time.localtime = lambda seconds=None: _localtime(time.time() if seconds is None else seconds)
time.strftime = lambda form, moment=None: _strftime(form, moment or time.localtime())


class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


datetime.datetime = Later
"""
UNITS = ("admin", "api", "callback", "console", "consumer", "relay", "simulator", "worker")


class Checkout:
    """A clone of this repository's last commit, with an output and a cache of artifacts of its own."""

    def __init__(self, folder: Path, umask: int = 0o022, python: str = sys.executable, key: Path | None = None) -> None:
        self._python = python
        self.key = key or folder / "signer/key"
        self.root = folder / "clone"
        self.output = folder / "dist"
        self._cache = folder / "cache"
        self._cache.mkdir(parents=True)
        CACHE.joinpath("wheels").mkdir(parents=True, exist_ok=True)
        # Only third-party wheels are shared: they are what a lock file says, whoever asks.
        self._cache.joinpath("wheels").symlink_to(CACHE / "wheels")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(self.root)], umask=umask, check=True)

    def build(
        self, units: Sequence[str] = UNITS, *options: str, umask: int = 0o022, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the builder as a release does."""
        command = [self._python, "-m", "artifact_build", "--source", str(self.root), "--output", str(self.output)]
        command += [
            "--cache",
            str(self._cache),
            "--signing-key",
            str(self.key),
            *(f"--unit={unit}" for unit in units),
            *options,
        ]
        return subprocess.run(
            command,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(BUILDER), **environ},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )

    def bundle(self, *arguments: Any, **keywords: Any) -> Path:
        """Build, and return the bundle's folder."""
        done = self.build(*arguments, **keywords)
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["bundle"])

    def append(self, name: str, text: str) -> None:
        with (self.root / name).open("a", encoding="utf-8") as stream:
            stream.write(text)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def bundle(first: Checkout) -> Path:
    return first.bundle(**HERE)


@pytest.fixture
def clone(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def manifest(bundle: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return document


def later_python(folder: Path) -> str:
    """An interpreter with everything that this one has, years later: what it starts by its own name is as late."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "everything.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (site / "sitecustomize.py").write_text(SHIFTED_CLOCK)
    return str(folder / "bin/python")


def test_one_commit_gives_the_same_bytes_at_another_place_and_time(
    first: Checkout, bundle: Path, tmp_path: Path
) -> None:
    python = later_python(tmp_path / "later")
    # As the builder starts its back end: without what PYTHONPATH may bring.
    clock = [python, "-c", "import datetime, time; print(datetime.datetime.now().year, time.gmtime().tm_year)"]
    years = subprocess.check_output(clock, env={**os.environ, "PYTHONPATH": ""}, text=True).split()
    assert all(int(year) >= time.gmtime().tm_year + YEARS - 1 for year in years)
    second = Checkout(tmp_path / "a rather longer path", umask=0o077, python=python, key=first.key)
    for path in second.root.rglob("*"):
        if ".git" not in path.parts:
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)

    other = second.bundle(umask=0o077, HOME=str(tmp_path), **ELSEWHERE)

    assert manifest(other) == manifest(bundle)
    assert other.name == bundle.name
    for name in ("manifest.json", "manifest.json.sig", "sbom.cdx.json"):
        assert (other / name).read_bytes() == (bundle / name).read_bytes(), name


def test_no_artifact_tells_when_or_by_whom_it_was_made(bundle: Path) -> None:
    for artifact in bundle.glob("*.tar"):
        with tarfile.open(artifact) as tar:
            members = tar.getmembers()
            own = next(member for member in members if member.name.startswith("wheels/cpq_oms_"))
            stream = tar.extractfile(own)
            assert stream
            with zipfile.ZipFile(BytesIO(stream.read())) as wheel:
                times = {entry.date_time for entry in wheel.infolist()}

        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(member.mtime, member.mode, member.uid, member.gid, member.uname) for member in members} == {
            (0, 0o644, 0, 0, "")
        }
        assert times == {(1980, 1, 1, 0, 0, 0)}


def test_the_manifest_says_the_budget_of_each_migration_that_has_one(bundle: Path) -> None:
    texts = {
        path.stem: path.read_text() for path in (bundle / "migrations").glob("*.sql") if ".rollback" not in path.name
    }
    headers = {name: read_header(name, text) for name, text in texts.items()}

    said = manifest(bundle)["migration_budgets"]

    assert "0026_expand_migration_backfill" in said
    assert {name: read_header(name, f"-- budget: {text}").budget for name, text in said.items()} == {
        name: header.budget for name, header in headers.items() if header.budget
    }


def test_manifest_names_every_byte(bundle: Path) -> None:
    document = manifest(bundle)
    files = {str(path.relative_to(bundle)): path for path in bundle.rglob("*") if path.is_file()}
    assert {"manifest.json", "manifest.json.sig", *document["files"]} == set(files)
    assert {name: (about["size"], about["sha256"]) for name, about in document["files"].items()} == {
        name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for name, path in files.items()
        if name not in {"manifest.json", "manifest.json.sig"}
    }
    assert {unit: about["file"] for unit, about in document["units"].items()} == {
        unit: f"cpq-oms-{unit}.tar" for unit in UNITS
    }
    assert document["release_id"] == bundle.name
    assert re.fullmatch("[0-9a-f]{16}", document["build_id"])
    assert document["git_commit"] == subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()


def test_what_a_release_judges_beforehand_lies_open_in_the_bundle(bundle: Path) -> None:
    """Held to the sources, which the test's clone was made of: the release reads these and no checkout."""
    for folder, source in (("bpmn", "bpmn"), ("contracts", "app/contracts"), ("migrations", "migrations")):
        laid_open = {path.relative_to(bundle / folder) for path in (bundle / folder).rglob("*") if path.is_file()}

        assert laid_open
        assert {path: (bundle / folder / path).read_text() for path in laid_open} == {
            path: (ROOT / source / path).read_text() for path in laid_open
        }
    assert {path.name for path in (bundle / "bpmn").iterdir()} == {path.name for path in (ROOT / "bpmn").iterdir()}
    found = {str(path.relative_to(bundle)) for path in bundle.rglob("*")}
    assert {
        *(
            f"contracts/{name}"
            for name in ("openapi.yml", "settings.json", "redis_keys.yml", "job_types.yml", "processes.yml")
        ),
        *(f"contracts/{path.relative_to(CONTRACTS)}" for path in CONTRACTS.glob("topics/*.yml")),
        *(f"contracts/{path.relative_to(CONTRACTS)}" for path in CONTRACTS.glob("events/*.schema.json")),
        *(f"contracts/{path.relative_to(CONTRACTS)}" for path in CONTRACTS.glob("variables/*.schema.json")),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "migrations").rglob("*.sql")),
    } <= found
    assert (bundle / "runbook.md").read_text() == (ROOT / "docs/release.md").read_text()


def test_a_built_bundle_is_believed_by_those_who_trust_its_signer_and_by_nobody_else(
    first: Checkout, bundle: Path, tmp_path: Path
) -> None:
    ensure_key(tmp_path / "other")
    own, other = (public_key_of(key).read_text().strip() for key in (first.key, tmp_path / "other"))

    assert bundle_verification.verified_bundle(bundle, [own]) == manifest(bundle)
    with pytest.raises(bundle_verification.UntrustedError, match="expected a signature by one of bundles@"):
        bundle_verification.verified_bundle(bundle, [other])


def test_bill_of_materials_lists_every_artifact_and_every_locked_wheel_in_it(bundle: Path) -> None:
    text = (bundle / "sbom.cdx.json").read_text()
    bill = json.loads(text)
    components = {part["purl"]: part["hashes"][0]["content"] for part in bill["components"]}
    needed = {part["ref"]: set(part.get("dependsOn", ())) for part in bill["dependencies"]}
    document = manifest(bundle)

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert bill["specVersion"] == "1.6"
    assert bill["metadata"]["component"]["version"] == document["release_id"]
    for unit, about in document["units"].items():
        purl = f"pkg:generic/cpq-oms-{unit}@{about['version'].replace('+', '%2B')}"
        assert components.pop(purl) == document["files"][about["file"]]["sha256"]
        locked = {
            f"pkg:pypi/{item.name}@{item.version}": item.hashes
            for item in read_lock(ROOT / f".config/locks/{unit}.txt")
        }
        assert needed[purl] == set(locked)
        for library, hashes in locked.items():
            assert components[library] in hashes
    libraries = {library for wanted in needed.values() for library in wanted if library.startswith("pkg:pypi/")}
    assert set(components) == libraries
    [installer] = [purl for purl in components if purl.startswith("pkg:pypi/uv@")]
    assert components[installer] == document["files"]["uv"]["sha256"]


def test_bill_of_materials_has_the_time_of_the_commit_and_a_number_that_follows_from_its_content(bundle: Path) -> None:
    bill = json.loads((bundle / "sbom.cdx.json").read_text())
    committed = int(subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT, text=True))

    assert datetime.fromisoformat(bill["metadata"]["timestamp"]).timestamp() == committed
    assert uuid.UUID(bill["serialNumber"]).version == 5


@pytest.mark.parametrize("unit", UNITS)
def test_artifact_holds_what_it_declares(bundle: Path, unit: str) -> None:
    declaration = read_declarations(ROOT)[unit]

    assert inspect(bundle / f"cpq-oms-{unit}.tar", declaration) == []


@pytest.mark.parametrize(
    ("unit", "forbidden"),
    [
        ("relay", "app.domain.order"),
        ("relay", "app.application.ports"),
        ("api", "app.adapters.kafka.producer"),
        ("api", "app.adapters.zeebe.worker"),
        ("consumer", "app.adapters.http.external_system"),
        ("callback", "app.domain.order"),
        ("console", "app.adapters.zeebe.client"),
        ("simulator", "app.domain.order"),
    ],
)
def test_forbidden_import_stops_the_build(clone: Checkout, unit: str, forbidden: str) -> None:
    clone.append(f"app/entrypoints/{unit}/__main__.py", f"\n\ndef _late() -> None:\n    import {forbidden}  # noqa\n")

    done = clone.build([unit])

    assert done.returncode == 1
    assert f"cpq-oms-{unit} must not hold {forbidden}: app.entrypoints.{unit}.__main__ -> {forbidden}" in done.stderr
    assert not list(clone.output.glob("cpq-oms-*"))


def test_import_that_no_distribution_brings_stops_the_build(clone: Checkout) -> None:
    clone.append("app/entrypoints/api/__main__.py", "\n\ndef _late() -> None:\n    import kafka.errors  # noqa\n")

    done = clone.build(["api"])

    assert done.returncode == 1
    assert (
        "app.entrypoints.api.__main__ imports kafka.errors, which no distribution in the artifact brings" in done.stderr
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("kafka-python,", "", "holds undeclared distribution kafka-python"),
        ("kafka-python,", "kafka-python, hiredis,", "lacks declared distribution hiredis"),
    ],
)
def test_distributions_are_those_declared(bundle: Path, tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (ROOT / "app/contracts/artifacts.yml").read_text()
    head, relay = text.split("  cpq-oms-relay:", 1)
    (tmp_path / "app/contracts").mkdir(parents=True)
    (tmp_path / "app/contracts/artifacts.yml").write_text(head + "  cpq-oms-relay:" + relay.replace(old, new, 1))

    problems = inspect(bundle / "cpq-oms-relay.tar", read_declarations(tmp_path)["relay"])

    assert f"cpq-oms-relay: {problem}" in problems


def test_a_list_that_names_something_twice_is_refused(tmp_path: Path) -> None:
    declared = (ROOT / "app/contracts/artifacts.yml").read_text()
    line = "      - migrations/ledger.txt\n"
    (tmp_path / "app/contracts").mkdir(parents=True)
    (tmp_path / "app/contracts/artifacts.yml").write_text(declared.replace(line, line + line))

    with pytest.raises(RefusedError, match=r"cpq-oms-admin: shared: migrations/ledger.txt is there twice"):
        read_declarations(tmp_path)


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ("app/domain/order.py", "holds module app.domain.order, which is not on its allow-list"),
        ("app/contracts/openapi.yml", "holds undeclared data file app/contracts/openapi.yml"),
        ("app/adapters/postgres/sql/orders.sql", "holds app/adapters/postgres/sql/orders.sql without the module"),
    ],
)
def test_file_that_slipped_into_an_artifact_is_found(bundle: Path, tmp_path: Path, added: str, problem: str) -> None:
    altered = tmp_path / "relay.tar"
    with tarfile.open(bundle / "cpq-oms-relay.tar") as source, tarfile.open(altered, "w") as target:
        for member in source.getmembers():
            stream = source.extractfile(member)
            assert stream
            content = stream.read()
            if member.name.startswith("wheels/cpq_oms_"):
                with zipfile.ZipFile(buffer := BytesIO(content), "a") as wheel:
                    wheel.writestr(added, "")
                content = buffer.getvalue()
            member.size = len(content)
            target.addfile(member, BytesIO(content))

    problems = inspect(altered, read_declarations(ROOT)["relay"])

    assert any(problem in line for line in problems), problems


def test_unchanged_inputs_are_not_built_again(first: Checkout, bundle: Path) -> None:
    before = (bundle / "manifest.json").stat().st_mtime_ns

    again = json.loads(first.build().stdout)

    assert (again["changed"], again["bundle"]) == (False, str(bundle))
    assert (bundle / "manifest.json").stat().st_mtime_ns == before


def test_damaged_bundle_is_made_anew(clone: Checkout) -> None:
    bundle = clone.bundle(["relay"])
    sha = manifest(bundle)["files"]["cpq-oms-relay.tar"]["sha256"]
    artifact = bundle / "cpq-oms-relay.tar"
    with artifact.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"damage")

    repaired = clone.bundle(["relay"])

    assert manifest(repaired)["files"]["cpq-oms-relay.tar"]["sha256"] == sha
    assert subprocess.check_output(["sha256sum", str(artifact)], text=True).split()[0] == sha


@pytest.mark.parametrize("spoil", ["unsigned", "foreign file", "signed by another key"])
def test_bundle_that_would_be_refused_is_made_anew(clone: Checkout, tmp_path: Path, spoil: str) -> None:
    bundle = clone.bundle(["relay"])
    if spoil == "unsigned":
        (bundle / "manifest.json.sig").unlink()
    elif spoil == "foreign file":
        (bundle / "migrations/9999_expand_all.sql").write_text("")
    else:
        clone.key = tmp_path / "other"

    again = json.loads(clone.build(["relay"]).stdout)

    assert again["changed"]
    signer = public_key_of(clone.key).read_text().strip()
    assert bundle_verification.verified_bundle(bundle, [signer])["release_id"] == bundle.name


def test_a_key_that_others_can_read_signs_nothing(clone: Checkout) -> None:
    ensure_key(clone.key)
    clone.key.chmod(0o644)

    done = clone.build(["relay"])

    assert done.returncode == 1
    assert f"{clone.key}: ssh-keygen cannot sign with this key" in done.stderr
    assert not list(clone.output.glob("cpq-oms-*"))


def test_release_id_is_the_commit_until_the_inputs_differ_from_it(clone: Checkout) -> None:
    clean = json.loads(clone.build(["relay"], "--dry-run").stdout)["release_id"]
    clone.append("README.md", "not an input\n")
    still_clean = json.loads(clone.build(["relay"], "--dry-run").stdout)["release_id"]
    clone.append("app/messaging/envelope.py", "# an input\n")
    dirty = json.loads(clone.build(["relay"], "--dry-run").stdout)["release_id"]
    clone.append("app/messaging/envelope.py", "# another\n")
    dirtier = json.loads(clone.build(["relay"], "--dry-run").stdout)["release_id"]
    assert not clone.key.exists()

    assert re.fullmatch(r"cpq-oms-\d{4}\.\d\d\.\d\d-\d{3,}", clean)
    assert still_clean == clean
    assert re.fullmatch(re.escape(clean) + "-d[0-9a-f]{8}", dirty)
    assert len({clean, dirty, dirtier}) == 3
    assert not clone.output.exists()


def test_ordinals_count_the_commits_of_a_day(clone: Checkout) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    ids = []
    for moment in ("2031-01-05T23:30:00+00:00", "2031-01-06T04:00:00+05:00", "2031-01-06T00:10:00+00:00"):
        subprocess.run(
            ["git", "-C", str(clone.root), "commit", "-q", "--allow-empty", "-m", "x"],
            env={**os.environ, **identity, "GIT_COMMITTER_DATE": moment, "GIT_AUTHOR_DATE": moment},
            check=True,
        )
        ids.append(json.loads(clone.build(["relay"], "--dry-run", TZ="Asia/Tokyo").stdout)["release_id"])

    assert ids == ["cpq-oms-2031.01.05-001", "cpq-oms-2031.01.05-002", "cpq-oms-2031.01.06-001"]


def test_second_history_with_the_same_id_is_refused(clone: Checkout) -> None:
    bundle = clone.bundle(["relay"])
    document = manifest(bundle)
    (bundle / "manifest.json").write_text(json.dumps({**document, "git_commit": "0" * 40}))

    done = clone.build(["relay"])

    assert done.returncode == 1
    assert "two histories gave one release id" in done.stderr


def test_shallow_clone_is_refused_with_the_remedy(clone: Checkout, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{clone.root}", str(shallow)], check=True)
    shutil.rmtree(clone.root)
    shallow.rename(clone.root)

    done = clone.build(["relay"])

    assert done.returncode == 1
    assert "git fetch --unshallow" in done.stderr
