"""The first host of this scenario, and the way to it, which leads through the network of their own."""

import subprocess

import pytest
import testinfra

INSIDE = ["ip", "netns", "exec", "cpq-moleculealt"]
CONFIG = "/var/lib/cpq-oms/molecule-alternative/ssh_config"


@pytest.fixture
def name():
    return "first"


@pytest.fixture
def address():
    return "10.56.1.11"


@pytest.fixture
def inside():
    """Run a command in the hosts' network; what it prints, and nothing when it fails."""

    def run(*command):
        done = subprocess.run([*INSIDE, *command], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""

    return run


@pytest.fixture
def ssh():
    return [*INSIDE, "ssh", "-F", CONFIG]


@pytest.fixture
def host(tmp_path, ssh, name):
    """The host as testinfra sees it: its ssh, which is outside, takes the host's own ssh for the way in."""
    config = tmp_path / "ssh_config"
    way = [*ssh, "-o", "ConnectTimeout=5", "-W", "127.0.0.1:22", name]
    config.write_text(f"Host {name}\n  ControlPath none\n  ProxyCommand {' '.join(way)}\n\nInclude {CONFIG}\n")
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(config))
