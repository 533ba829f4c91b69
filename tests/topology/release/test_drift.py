"""A second run changes nothing; whatever was altered by hand is reported, repaired, and then is no difference any more."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kafka.admin import ConfigResource, ConfigResourceType

from tests.topology.release.conftest import TIMER, Environment

RELAY = "cpq-oms-relay.service"
TOPIC = "oms.order.events.v1"


def test_a_second_run_reports_no_change_and_leaves_every_process_alone(environment: Environment) -> None:
    pids = environment.main_pids()

    run = environment.release()

    assert (run.code, run.changed) == (0, 0), run.output
    assert environment.main_pids() == pids
    assert environment.last_run() == ("succeeded", "{}")


def test_check_mode_on_a_released_host_succeeds_and_changes_nothing(environment: Environment) -> None:
    runs = environment.sql("SELECT count(*) FROM cpq.release_run")

    run = environment.release("--check", "--diff")

    assert (run.code, run.changed) == (0, 0), run.output
    assert environment.sql("SELECT count(*) FROM cpq.release_run") == runs


@dataclass(frozen=True)
class Drift:
    """Something altered behind the release's back.

    Attributes:
        alter: the command on the host that does it.
        look: a command of the host's own that tells the altered from the declared, whatever the release thinks of it.
        reports: lines, whole ones and in this order, in which the run says what it repaired.
    """

    alter: str
    look: str
    reports: tuple[str, ...]


def psql(statement: str) -> str:
    return f'runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 cpq -c "{statement}"'


def changed(name: str) -> str:
    """How a difference begins."""
    return f"+++ after: {name}"


UNIT = f"/etc/systemd/system/{RELAY}"
SETTINGS = "/etc/cpq-oms/api.env"
WRAPPER = "/usr/local/bin/cpq-oms-admin"
CREDENTIALS = "/etc/cpq-oms/credentials"
PROGRAM = "lib/python3.13/site-packages/app/entrypoints/consumer/loop.py"
LOOP = f"/opt/cpq-oms/consumer/current/{PROGRAM}"
CAN_DELETE = psql("SELECT has_table_privilege('cpq_api', 'cpq.quote', 'DELETE')")
CAN_READ = psql("SELECT has_table_privilege('cpq_api', 'cpq.quote', 'SELECT')")
DRIFTS = {
    "unit": Drift(f"echo '# altered' >> {UNIT}", f"sha256sum {UNIT}", (changed(UNIT),)),
    "setting": Drift(f"sed -i s/INFO/DEBUG/ {SETTINGS}", f"sha256sum {SETTINGS}", (changed(SETTINGS),)),
    "file": Drift(f"rm {WRAPPER}", f"sha256sum {WRAPPER}", (changed(WRAPPER),)),
    "mode": Drift(
        f"chmod 0644 {CREDENTIALS}/worker/db-password",
        f"stat --format='%a %U' {CREDENTIALS}/worker/db-password",
        (changed(f"{CREDENTIALS}/worker/db-password"),),
    ),
    "credential": Drift(
        f"echo wrong > {CREDENTIALS}/consumer/kafka-password",
        f"sha256sum {CREDENTIALS}/consumer/kafka-password",
        (changed(f"{CREDENTIALS}/consumer/kafka-password"),),
    ),
    "stray file": Drift(
        f"echo X=1 > {CREDENTIALS}/relay/stray",
        f"ls -A {CREDENTIALS}/relay",
        (changed(f"{CREDENTIALS}/relay/stray"), "+absent"),
    ),
    "stopped service": Drift(
        "systemctl stop cpq-oms-simulator.service",
        "systemctl is-active cpq-oms-simulator.service",
        (changed("cpq-oms-simulator.service"), "+start, was inactive"),
    ),
    "disabled service": Drift(
        "systemctl disable -q cpq-oms-worker@starter.service",
        "systemctl is-enabled cpq-oms-worker@starter.service",
        (changed("cpq-oms-worker@starter.service"), "+enabled"),
    ),
    "installed artifact": Drift(
        f"echo '# altered' >> {LOOP}",
        f"sha256sum {LOOP}",
        (changed("consumer"), f"-RELEASE altered: {PROGRAM}", "+RELEASE installed"),
    ),
    "stopped timer": Drift(f"systemctl stop {TIMER}", f"systemctl is-active {TIMER}", ("changed Start the timers",)),
    "package": Drift(
        "dpkg --purge --force-depends curl",
        "dpkg-query --show --showformat='${Status}' curl; curl --version | head -c 4",
        ("changed host_base : install | Install the base packages",),
    ),
    "grant": Drift(
        psql("GRANT DELETE ON cpq.quote TO cpq_api"), CAN_DELETE, ("pending: revoke cpq_api: DELETE on table quote",)
    ),
    "revoked grant": Drift(
        psql("REVOKE SELECT ON cpq.quote FROM cpq_api"), CAN_READ, ("pending: grant cpq_api: SELECT on table quote",)
    ),
    "flag": Drift(
        psql("DELETE FROM cpq.feature_flag"),
        psql("SELECT flag, enabled FROM cpq.feature_flag ORDER BY flag"),
        ("set order-fulfillment-start to its default, true",),
    ),
}


def test_every_alteration_is_reported_repaired_and_then_gone(environment: Environment) -> None:
    """Everything altered at once: a run costs the same for one difference and for all."""
    declared, retention = looks(environment), topic_retention(environment)
    for drift in DRIFTS.values():
        environment.host.run(drift.alter)
    topic_retention(environment, "3600000")
    altered = looks(environment)
    assert [name for name in DRIFTS if altered[name] == declared[name]] == [], "not altered at all"

    run = environment.release("--diff", playbooks=("playbooks/base.yml", "release.yml"))

    assert run.code == 0, run.output
    release_id = environment.sql("SELECT release_id FROM cpq.release_run ORDER BY started_at DESC LIMIT 1")[0]
    reported = lines(run.output.replace(release_id, "RELEASE"))
    expected = {name: drift.reports for name, drift in DRIFTS.items()} | {
        "topic": (f"set retention.ms={retention} on {TOPIC}",)
    }
    assert [name for name, reports in expected.items() if not in_order(reports, reported)] == [], run.output
    repaired = looks(environment)
    assert {name: repaired[name] for name in DRIFTS} == declared
    assert topic_retention(environment) == retention != "3600000"

    again = environment.release(playbooks=("playbooks/base.yml", "release.yml"))

    assert (again.code, again.changed) == (0, 0), again.output


def looks(environment: Environment) -> dict[str, str]:
    """What the host's own tools say of everything that is altered."""
    return {name: environment.host.run(drift.look, check=False).stdout for name, drift in DRIFTS.items()}


def lines(output: str) -> list[str]:
    """The lines of a run's output without indentation, times of tasks and hosts."""
    tasks = re.compile(r"^(changed) +[\d.]+ s  (.*?)  \[.*\]$")
    return [tasks.sub(r"\1 \2", line.strip()) for line in output.splitlines()]


def in_order(reports: tuple[str, ...], reported: list[str]) -> bool:
    """Whether the lines are there, each further one within the difference that the first one begins."""
    first, *further = reports
    starts = [number for number, line in enumerate(reported) if line == first]
    return any(set(further) <= set(reported[start + 1 : start + 4]) for start in starts)


def topic_retention(environment: Environment, milliseconds: str | None = None) -> str:
    """The broker's answer; before it, give the topic another retention, as somebody with the administrator's password could."""
    with environment.host.kafka_administrator() as client:
        if milliseconds is not None:
            change = {"retention.ms": milliseconds}
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, change)])
        answer = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, {"retention.ms": None})])
    return str(answer["topic"][TOPIC]["retention.ms"]["value"])
