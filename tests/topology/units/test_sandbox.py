"""The hosts' own systemd judges the units as they are installed and as they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import daemons
from tests.support.released_host import ReleasedHost

UNITS = Path(__file__).parents[3] / "systemd"
# In tenths, as systemd-analyze counts. A unit with network cannot get below 1.1.
GOAL = 12


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("cpq-oms*")))
def test_systemd_finds_nothing_to_say(host: ReleasedHost, name: str) -> None:
    done = host.run(f"systemd-analyze verify --man=no /etc/systemd/system/{name}", check=False)

    # systemd names the units of others, too, when they are wrong.
    assert "cpq-oms" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("*.service")))
def test_exposure_is_at_its_goal(host: ReleasedHost, name: str) -> None:
    done = host.run(
        f"systemd-analyze security --offline=true --no-pager --threshold={GOAL} /etc/systemd/system/{name}", check=False
    )

    assert done.returncode == 0, done.stdout


def test_the_judge_can_say_no(host: ReleasedHost) -> None:
    host.run(
        "mkdir -p /run/judged; cat > /run/judged/weak.service",
        standard_input="[Service]\nExecStart=/bin/true\nNoSuchDirective=yes\n",
    )

    verified = host.run("systemd-analyze verify --man=no /run/judged/weak.service", check=False)
    judged = host.run("systemd-analyze security --offline=true --threshold=20 /run/judged/weak.service", check=False)
    host.run("rm -r /run/judged")

    assert "NoSuchDirective" in verified.stderr
    assert judged.returncode != 0


@pytest.mark.parametrize("name", daemons.ALL)
def test_process_runs_as_nobody_with_nothing(host: ReleasedHost, name: str) -> None:
    pid = host.unit(name)["MainPID"]
    status = dict(line.split(":", 1) for line in host.run(f"cat /proc/{pid}/status").stdout.splitlines())

    assert int(status["Uid"].split()[0]) >= 61184, "a user that systemd made for this run"
    assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"


def test_no_two_daemons_have_the_same_user(host: ReleasedHost) -> None:
    pids = {name: host.unit(name)["MainPID"] for name in daemons.ALL}
    paths = " ".join(f"/proc/{pid}" for pid in pids.values())
    users = host.run(f"stat --format=%u {paths}").stdout.split()

    assert len(users) == len(set(users)) == len(daemons.ALL), dict(zip(pids, users, strict=True))


@pytest.mark.parametrize("name", daemons.ALL)
def test_every_line_in_the_journal_is_json(host: ReleasedHost, name: str) -> None:
    run = host.run(f"systemctl show --property=InvocationID --value {name}").stdout.strip()
    lines = host.run(f"journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID={run}").stdout.splitlines()

    documents = [json.loads(line) for line in lines]
    assert documents
    assert all({"level", "event"} <= set(document) for document in documents)


@pytest.mark.parametrize("name", daemons.ALL)
def test_no_secret_is_in_the_environment_or_on_the_command_line(host: ReleasedHost, name: str) -> None:
    pid = host.unit(name)["MainPID"]
    shown = host.run(f"cat /proc/{pid}/environ /proc/{pid}/cmdline | tr '\\0' '\\n'").stdout
    unit = name.removeprefix("cpq-oms-").split("@")[0].removesuffix(".service")
    secrets = host.run(f"cd /etc/cpq-oms/credentials/{unit} && for file in *; do cat $file; echo; done").stdout.split()

    assert len(secrets) >= 2
    assert not [secret for secret in secrets if secret in shown]


def test_credentials_are_readable_by_root_alone(host: ReleasedHost) -> None:
    modes = host.run("find /etc/cpq-oms/credentials -printf '%y %m %u %g\\n' | sort -u").stdout.split("\n")

    assert [line for line in modes if line] == ["d 700 root root", "f 600 root root"]
