"""The bundle holds what its manifest says: the wanted artifacts, each whole, and the installer."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def bundle():
    (found,) = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "dist").glob("cpq-oms-*")
    return found


def test_manifest_is_true(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())

    assert manifest["release_id"] == bundle.name
    assert set(manifest["units"]) == {"relay", "simulator"}
    for entry in (manifest["uv"], *manifest["units"].values()):
        assert hashlib.sha256((bundle / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_artifact_carries_a_hash_for_each_of_its_wheels(bundle):
    with tarfile.open(bundle / "cpq-oms-relay.tar") as tar:
        wheels = {
            hashlib.sha256(tar.extractfile(member).read()).hexdigest()
            for member in tar
            if member.name.startswith("wheels/")
        }
        locked = tar.extractfile("requirements.txt").read().decode()

    assert wheels == {line.rpartition("sha256:")[2] for line in locked.splitlines()}
