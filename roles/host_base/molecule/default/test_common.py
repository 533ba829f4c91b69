"""A host has the platform's places and one time, whatever its limits are."""


def test_time_is_utc(host):
    assert host.check_output("date +%Z") == "UTC"


def test_directories_are_there(host):
    for path in ("/etc/cpq-oms", "/opt/cpq-oms"):
        assert host.file(path).is_directory
        assert (host.file(path).user, oct(host.file(path).mode)) == ("root", "0o755")
