"""The release is where it was asked for, runs on the named Python, and older ones went as agreed."""


def test_release_uses_the_named_python(host, home):
    assert host.check_output(f"readlink {home}/releases/*/bin/python") == "/usr/local/bin/python-of-the-platform"


def test_only_the_newest_of_the_others_and_the_current_one_are_left(host, home):
    others = host.check_output(f"cd {home}/releases && for one in *; do test -e $one/release.json || echo $one; done")

    assert others.split() == ["cpq-oms-2026.01.01-001", "cpq-oms-2026.01.03-001"]
    assert host.check_output(f"readlink {home}/current") == "releases/cpq-oms-2026.01.01-001"


def test_default_places_are_left_alone(host):
    assert not host.file("/opt/cpq-oms").exists
