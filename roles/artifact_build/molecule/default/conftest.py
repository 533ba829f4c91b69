"""Where this scenario's bundle is, and what it holds."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def bundle():
    (found,) = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "dist").glob("cpq-oms-*")
    return found


@pytest.fixture
def units():
    return {"relay", "simulator"}
