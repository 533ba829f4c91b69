"""The release is a complete installation of its own, and nothing runs from it yet."""

import json


def release_on(host, home):
    return host.check_output(f"dirname {home}/releases/*/release.json")


def test_release_is_finished_and_tells_what_it_is(host, home):
    release = release_on(host, home)
    about = json.loads(host.file(f"{release}/release.json").content_string)

    assert about["release_id"] == release.rpartition("/")[2]
    assert not host.file(f"{release}/.unfinished").exists
    assert host.run(f"readlink --canonicalize-existing {home}/current").stdout.strip() != release


def test_program_runs_from_it(host, home):
    release = release_on(host, home)
    assert "token issuer" in host.check_output(f"{release}/bin/cpq-oms-simulator --help")


def test_every_own_source_has_its_bytecode(host, home):
    release = release_on(host, home)
    packages = f"{release}/lib/python3.13/site-packages"
    sources = host.check_output(f"find {packages}/app -name '*.py' | wc -l")
    compiled = host.check_output(f"find {packages}/app -name '*.pyc' | wc -l")

    assert sources == compiled
    assert int(sources) > 10


def test_nobody_but_root_can_write_to_it(host, home):
    release = release_on(host, home)
    assert host.check_output(f"find {release} ! -type l '(' -perm /022 -o ! -user root ')'") == ""
