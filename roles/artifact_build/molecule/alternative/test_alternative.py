"""The bundle is of the named checkout, lies where it was asked for, and older ones went as agreed."""

import json
import os
import subprocess
from pathlib import Path

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def head_of(checkout):
    ask = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()


def test_bundle_is_of_the_named_checkout(bundle):
    commit = json.loads((bundle / "manifest.json").read_text())["git_commit"]

    assert commit == head_of(SCRATCH / "checkout")
    assert commit != head_of(Path(__file__).parent)
    assert not (SCRATCH / "checkout/dist").exists()


def test_only_the_newest_of_the_older_bundles_is_left(bundle, bundles):
    others = {path.name for path in bundles.iterdir() if not path.name.startswith(".")} - {bundle.name}

    assert others == {"cpq-oms-2026.01.02-001", "notes"}


def test_finished_artifact_is_in_the_named_cache(bundle):
    (kept,) = (SCRATCH / "cache/artifacts").glob("*/*.tar")

    assert kept.read_bytes() == (bundle / "cpq-oms-callback.tar").read_bytes()
