"""The host of this scenario, and the way to it."""

import pytest


@pytest.fixture
def name():
    return "molecule-1"


@pytest.fixture
def address():
    return "10.56.3.11"


@pytest.fixture
def ssh():
    """Start of a command that reaches the hosts as a person would."""
    return ["ssh", "-F", "/var/lib/cpq-oms/molecule/ssh_config"]
