"""Every alert is raised by the figures that must raise it and by none next to them; nobody but this host is answered."""

import base64
import json
import time
from pathlib import Path

TESTS = Path(__file__).parents[2] / "files/rule_tests"


def ask(host, path, port=9090):
    return json.loads(host.check_output(f"curl --silent --fail --max-time 5 'http://127.0.0.1:{port}{path}'"))


def test_each_alert_is_raised_when_it_must_and_only_then(host):
    host.check_output(
        "rm -rf /root/rules && mkdir -p /root/rules/rule_tests && ln -s /etc/prometheus/rules /root/rules/rules"
    )
    for path in sorted(TESTS.glob("*.yml")):
        text = base64.b64encode(path.read_bytes()).decode()
        host.check_output(f"echo {text} | base64 --decode > /root/rules/rule_tests/{path.name}")

    said = host.run("cd /root/rules/rule_tests && promtool test rules *.yml")
    assert said.rc == 0, said.stdout + said.stderr


def test_the_declared_target_is_looked_at_and_found_down(host):
    for _ in range(30):
        if samples := ask(host, "/api/v1/query?query=up%7Bjob%3D%22host%22%7D")["data"]["result"]:
            break
        time.sleep(1)

    assert [sample["value"][1] for sample in samples] == ["0"]


def test_nobody_else_is_answered(host):
    for port in (9090, 9095):
        assert host.run(f"curl --silent --max-time 2 http://10.56.3.11:{port}/").rc != 0


def test_alerts_reach_the_receiver(host):
    said = host.check_output("amtool --alertmanager.url=http://127.0.0.1:9095 config show")

    assert "<secret>" in said or "http://127.0.0.1:4318/v1/alerts" in said
    assert host.file("/etc/prometheus/alertmanager.yml").contains("http://127.0.0.1:4318/v1/alerts")
