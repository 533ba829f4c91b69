"""Where this scenario's releases are, and where its unit answers."""

import pytest


@pytest.fixture
def root():
    return "/opt/cpq-oms"


@pytest.fixture
def issuer():
    return "http://10.56.3.11:8090/issuer"
