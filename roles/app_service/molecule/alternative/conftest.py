"""Where this scenario's releases are, and where its unit answers."""

import pytest


@pytest.fixture
def root():
    return "/srv/platform"


@pytest.fixture
def issuer():
    return "http://10.56.3.11:8091/issuer"
