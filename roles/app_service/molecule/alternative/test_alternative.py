"""A unit of another root runs beside one that is declared as stopped, and what is no longer declared is gone."""

INSTANCES = ("order-projection", "billing-trigger")


def test_stopped_unit_has_its_release_and_does_not_run_nor_start_with_the_host(host, root):
    assert host.file(f"{root}/consumer/current/bin/cpq-oms-consumer").exists
    for instance in INSTANCES:
        assert not host.service(f"cpq-oms-consumer@{instance}.service").is_running
        assert not host.service(f"cpq-oms-consumer@{instance}.service").is_enabled


def test_each_instance_has_its_own_settings_over_the_shared_ones(host):
    found = {name: host.file(f"/etc/cpq-oms/consumer-{name}.env").content_string.splitlines() for name in INSTANCES}

    assert {'CONSUMER_GROUP="order-projection"', 'LOG_LEVEL="WARNING"'} < set(found["order-projection"])
    assert {'CONSUMER_GROUP="billing-trigger"', 'LOG_LEVEL="INFO"'} < set(found["billing-trigger"])
    assert not host.file("/etc/cpq-oms/consumer.env").exists


def test_what_is_no_longer_declared_is_gone(host):
    assert host.check_output("ls /etc/cpq-oms/credentials/consumer").split() == ["db-password", "kafka-password"]
    assert not host.file("/etc/cpq-oms/consumer-dropped.env").exists


def test_units_are_those_of_the_named_folder(host, root):
    shown = host.check_output("systemctl cat cpq-oms-simulator.service cpq-oms-consumer@.service")

    assert f"ExecStart={root}/simulator/current/bin/cpq-oms-simulator" in shown
    assert "/opt/cpq-oms" not in shown
    assert not host.file("/opt/cpq-oms").exists
