"""Where this scenario's bundle is, and what it holds."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def bundles():
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "bundles")


@pytest.fixture
def bundle(bundles):
    (found,) = (path.parent for path in bundles.glob("cpq-oms-*/cpq-oms-callback.tar"))
    return found


@pytest.fixture
def units():
    return {"callback"}
