"""The bundle holds what its signed manifest says: the wanted artifacts, each whole, and all that goes along."""

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import yaml

VARIABLES = Path(__file__).parents[4] / ".config/molecule/inventory/group_vars/all/environment.yml"


def test_manifest_is_true(bundle, units):
    manifest = json.loads((bundle / "manifest.json").read_text())

    assert manifest["release_id"] == bundle.name
    assert set(manifest["units"]) == units
    files = {str(path.relative_to(bundle)): path for path in bundle.rglob("*") if path.is_file()}
    assert set(files) == {"manifest.json", "manifest.json.sig", *manifest["files"]}
    for name, about in manifest["files"].items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == about["sha256"], name
    assert {"uv", "sbom.cdx.json", "runbook.md", "migrations/ledger.txt", "contracts/redis_keys.yml"} < set(files)


def test_manifest_is_signed_by_the_key_of_this_machine(bundle, tmp_path):
    key = Path(yaml.safe_load(VARIABLES.read_text())["artifact_build_signing_key"])
    allowed = tmp_path / "allowed"
    allowed.write_text(f"builder {key.with_name('key.pub').read_text()}")
    command = ["ssh-keygen", "-Y", "verify", "-n", "cpq-oms-bundle", "-I", "builder", "-f", str(allowed)]
    command += ["-s", str(bundle / "manifest.json.sig")]

    done = subprocess.run(command, input=(bundle / "manifest.json").read_bytes(), check=False, capture_output=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert key.stat().st_mode & 0o777 == 0o600


def test_artifact_carries_a_hash_for_each_of_its_wheels(bundle, units):
    with tarfile.open(bundle / f"cpq-oms-{min(units)}.tar") as tar:
        wheels = {
            hashlib.sha256(tar.extractfile(member).read()).hexdigest()
            for member in tar
            if member.name.startswith("wheels/")
        }
        locked = tar.extractfile("requirements.txt").read().decode()

    assert wheels == {line.rpartition("sha256:")[2] for line in locked.splitlines()}
