"""A host proves to be what its tiers are, and nothing else; only the group of a component reads its key."""

import pytest

TLS = "/etc/cpq-oms/tls"


def text_of(host, identity, *what):
    return host.check_output(f"openssl x509 -noout -in {TLS}/{identity}/cert.pem {' '.join(what)}")


@pytest.mark.parametrize("identity", ["shop", "teller"])
def test_certificate_is_of_the_trusted_root_and_of_its_key(host, identity):
    folder = f"{TLS}/{identity}"

    host.run_expect([0], f"openssl verify -x509_strict -CAfile {TLS}/ca.pem {folder}/cert.pem")
    assert text_of(host, identity, "-pubkey") == host.check_output(f"openssl pkey -pubout -in {folder}/key.pem")
    assert host.file(f"{folder}/identity.pem").content == b"".join(
        host.file(f"{folder}/{name}").content for name in ("key.pem", "cert.pem")
    )


def test_certificate_says_which_component_of_which_environment_it_is(host):
    assert text_of(host, "shop", "-subject", "-nameopt", "RFC2253") == "subject=CN=shop@molecule-1,OU=shop,O=molecule"
    names = text_of(host, "shop", "-ext", "subjectAltName")
    assert "DNS:molecule-1, IP Address:10.56.3.11" in names
    assert "TLS Web Server Authentication" in text_of(host, "shop", "-ext", "extendedKeyUsage")
    assert "Server" not in text_of(host, "teller", "-ext", "extendedKeyUsage")


def test_key_is_read_by_its_group_only(host):
    assert host.run(f"setpriv --reuid=redis --regid=redis --clear-groups cat {TLS}/shop/key.pem").rc == 0
    assert host.run(f"setpriv --reuid=redis --regid=redis --clear-groups cat {TLS}/teller/key.pem").rc != 0
    assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups cat {TLS}/shop/key.pem").rc != 0
    assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups cat {TLS}/ca.pem").rc == 0


def test_identities_of_other_tiers_are_absent(host):
    assert not host.file(f"{TLS}/warehouse").exists
