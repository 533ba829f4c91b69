"""The release is a complete installation of its own, and nothing runs from it yet."""

import json

HOME = "/opt/cpq-oms/simulator"


def release_on(host):
    (name,) = host.check_output(f"ls {HOME}/releases").split()
    return f"{HOME}/releases/{name}"


def test_release_is_finished_and_tells_what_it_is(host):
    release = release_on(host)
    about = json.loads(host.file(f"{release}/release.json").content_string)

    assert about["release_id"] == release.rpartition("/")[2]
    assert not host.file(f"{release}/.unfinished").exists
    assert not host.file(f"{HOME}/current").exists


def test_program_runs_from_it(host):
    release = release_on(host)
    assert "token issuer" in host.check_output(f"{release}/bin/cpq-oms-simulator --help")


def test_every_own_source_has_its_bytecode(host):
    release = release_on(host)
    packages = f"{release}/lib/python3.13/site-packages"
    sources = host.check_output(f"find {packages}/app -name '*.py' | wc -l")
    compiled = host.check_output(f"find {packages}/app -name '*.pyc' | wc -l")

    assert sources == compiled
    assert int(sources) > 10


def test_nobody_but_root_can_write_to_it(host):
    release = release_on(host)
    assert host.check_output(f"find {release} ! -type l '(' -perm /022 -o ! -user root ')'") == ""
