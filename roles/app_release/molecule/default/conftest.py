"""Where this scenario's releases are."""

import pytest


@pytest.fixture
def home():
    return "/opt/cpq-oms/simulator"
