"""Hosts in a network of their own: reached from inside it and from nowhere else, with names and a way in like real ones."""

import json
import subprocess
from pathlib import Path

NETWORK = "cpq-moleculealt"


def links(*options):
    shown = subprocess.run(["ip", *options, "-json", "link"], check=True, capture_output=True, text=True)
    return {link["ifname"] for link in json.loads(shown.stdout)}


def test_hosts_are_in_a_network_of_their_own():
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout

    assert NETWORK in links("-netns", NETWORK)
    assert NETWORK not in links()
    assert "cpq_moleculealt" not in tables


def test_nothing_leads_out_of_it(host, inside):
    assert host.check_output("ip route show default") == ""
    assert inside("ip", "route") == "10.56.1.0/24 dev cpq-moleculealt proto kernel scope link src 10.56.1.1"
    assert "nameserver" not in host.file("/etc/resolv.conf").content_string


def test_hosts_know_each_other_and_the_further_names(host, inside):
    for ask in (host.check_output, lambda command: inside(*command.split())):
        assert ask("getent hosts second").split()[0] == "10.56.1.12"
        assert ask("getent hosts api.example.test").split()[0] == "10.56.1.12"
        assert ask("getent hosts crm.example.test").split()[0] == "10.56.1.11"
    assert host.run("bash -c '</dev/tcp/second/22'").rc == 0


def test_release_user_comes_in_and_becomes_root(inside):
    """By what ssh reads in the network: no configuration is named here."""
    assert inside("ssh", "release@second", "whoami; sudo whoami; hostname").split() == ["release", "root", "second"]


def test_what_the_environment_owns_is_its_own(inside):
    assert Path(f"/etc/netns/{NETWORK}").readlink() == Path("/var/lib/cpq-oms/molecule-alternative/control")
    assert inside("ls", "/etc/cpq-oms") == "moleculealt"


def test_host_is_made_from_its_own_image(host):
    assert host.system_info.codename == "bookworm"
    assert not host.package("haproxy").is_installed
    assert host.package("cron").is_installed
    assert not host.service("cron").is_enabled
