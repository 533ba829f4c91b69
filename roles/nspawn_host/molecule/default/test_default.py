"""The host has the packages of all services, and the world outside."""


def test_services_are_there_and_off(host):
    for package in ("postgresql-17", "redis-server", "openjdk-21-jre-headless"):
        assert host.package(package).is_installed
    for unit in ("postgresql", "redis-server"):
        assert not host.service(unit).is_running
        assert not host.service(unit).is_enabled
    assert host.check_output("ls /var/lib/postgresql/17 2>/dev/null | wc -l") == "0", "the package made a cluster"


def test_package_lists_are_there_for_check_mode(host):
    assert host.run("apt-cache show nginx").rc == 0


def test_host_reaches_the_package_registry(host):
    assert host.run("apt-get update -q").rc == 0
