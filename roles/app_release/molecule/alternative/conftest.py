"""Where this scenario's releases are."""

import pytest


@pytest.fixture
def home():
    return "/srv/platform/simulator"
