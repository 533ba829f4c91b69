"""The engine takes processes and messages, each message once, and what it has taken survives a restart."""

import asyncio
import uuid

import pytest
from pyzeebe import ZeebeClient, create_insecure_channel
from pyzeebe.errors import MessageAlreadyExistsError

UNIT = "zeebe.service"
PROCESS = """<?xml version="1.0" encoding="UTF-8"?>
<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" targetNamespace="probe" id="definitions">
  <bpmn:message id="message" name="probe.start"/>
  <bpmn:process id="probe" isExecutable="true">
    <bpmn:startEvent id="start">
      <bpmn:outgoing>flow</bpmn:outgoing>
      <bpmn:messageEventDefinition id="definition" messageRef="message"/>
    </bpmn:startEvent>
    <bpmn:sequenceFlow id="flow" sourceRef="start" targetRef="end"/>
    <bpmn:endEvent id="end"><bpmn:incoming>flow</bpmn:incoming></bpmn:endEvent>
  </bpmn:process>
</bpmn:definitions>
"""


def with_client(work):
    async def run():
        channel = create_insecure_channel(grpc_address="10.56.3.11:26500")
        try:
            return await work(ZeebeClient(channel))
        finally:
            await channel.close()

    return asyncio.run(run())


def publish(message_id):
    async def work(client):
        await client.publish_message(
            "probe.start", correlation_key="key", message_id=message_id, time_to_live_in_milliseconds=600_000
        )

    return with_client(work)


@pytest.fixture
def process(tmp_path):
    path = tmp_path / "probe.bpmn"
    path.write_text(PROCESS)
    with_client(lambda client: client.deploy_resource(str(path)))


def test_broker_runs_as_its_own_user_and_starts_with_the_host(host):
    service = host.service(UNIT)

    assert service.is_running, host.check_output(f"journalctl --no-pager --lines=40 --unit={UNIT}")
    assert service.is_enabled
    assert service.systemd_properties["User"] == "zeebe"
    assert service.systemd_properties["Type"] == "notify"


def test_unit_is_hardened(host):
    service = host.service(UNIT)

    assert service.systemd_properties["ProtectSystem"] == "strict"
    assert service.systemd_properties["NoNewPrivileges"] == "yes"
    assert host.run(f"systemd-analyze security --no-pager --threshold=20 {UNIT}").rc == 0


@pytest.mark.usefixtures("process")
def test_message_is_taken_once_also_across_a_restart(host):
    message_id = str(uuid.uuid4())
    publish(message_id)
    with pytest.raises(MessageAlreadyExistsError):
        publish(message_id)

    # The unit is ready only when the gateway names a leader for every partition: no wait is needed here.
    assert host.run(f"systemctl restart {UNIT}").rc == 0

    with pytest.raises(MessageAlreadyExistsError):
        publish(message_id)


def test_start_fails_for_a_setting_that_the_broker_does_not_know(host):
    misspelt = "/run/misspelt.yaml"
    host.run_test(f"sed s/partitionsCount/partitionCount/ /etc/zeebe/application.yaml > {misspelt}")

    checked = host.run(f"java @/etc/zeebe/java.args cpqoms.zeebe.BrokerLauncher --check-config {misspelt}")

    assert checked.rc == 78
    assert "partition" in checked.stderr.lower()


def test_secrets_are_only_where_they_belong(host):
    assert host.file("/etc/zeebe/credentials").mode == 0o700
    assert host.run("grep -rlF PasswordOfTheTest1 /etc/zeebe --exclude-dir=credentials").rc == 1
    assert host.run("journalctl --no-pager | grep -F PasswordOfTheTest1").rc == 1


def test_a_broker_that_runs_out_of_memory_ends_and_does_not_stay_without_answering(host):
    """The engine asks for its end from a thread that its own stop would wait for."""
    folder = f"/run/systemd/system/{UNIT}.d"
    command = host.check_output(f"systemctl cat {UNIT} | grep ^ExecStart=").replace(
        "@/etc/zeebe/java.args", "@/run/small.args"
    )
    host.check_output(
        "sed 's/^-XX:MaxDirectMemorySize=.*/-XX:MaxDirectMemorySize=40m/' /etc/zeebe/java.args > /run/small.args"
    )
    host.check_output(
        f"mkdir -p {folder}; printf '[Service]\\nExecStart=\\n%s\\nRestart=no\\n' '{command}' > {folder}/small.conf"
    )
    try:
        host.check_output("systemctl daemon-reload")
        assert host.run(f"systemctl restart {UNIT}").rc != 0
        said = host.check_output(f"journalctl --no-pager -o cat --lines=200 --unit={UNIT}")
        assert "Out of memory, exiting now" in said
        assert "the engine gave itself up" in said
        ended = host.check_output(f"systemctl show {UNIT} --property=Result,ExecMainStatus")
        assert "Result=exit-code" in ended
        assert "ExecMainStatus=1" in ended
    finally:
        host.check_output(
            f"rm -r {folder}/small.conf /run/small.args; systemctl daemon-reload; systemctl reset-failed {UNIT}"
        )
        host.check_output(f"systemctl restart {UNIT}")
